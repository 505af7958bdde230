import { defineConfig } from "vitest/config";

// Forked processes: a native crash kills one test file, not the run.
export default defineConfig({
  test: {
    pool: "forks",
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Half of a busy machine is slow, not wrong.
    expect: { poll: { timeout: 20_000 } },
    maxWorkers: 2,
  },
});
