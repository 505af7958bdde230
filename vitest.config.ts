import { defineConfig } from "vitest/config";

// Forked processes: a native crash kills one test file, not the run.
export default defineConfig({
  test: {
    pool: "forks",
    include: ["test/**/*.test.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
  },
});
