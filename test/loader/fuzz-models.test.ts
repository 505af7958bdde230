import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { promisify } from "node:util";
import { expect, it } from "vitest";

const present = existsSync("../shared/models");
const COUNT = process.env["OCTAVO_LONG"] ? 2000 : 60;

// In a process of its own: a crash of the addon is a failure here, not the end of the run.
it.runIf(present)(
  `${COUNT} spoilt models each end in a clear error or a load${present ? "" : " (../shared/models is missing)"}`,
  async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [
      ...["--import", "tsx", "test/loader/fuzz-models.ts"],
      ...[String(COUNT), "7"],
    ]);
    expect(stdout).toContain(`${COUNT} spoilt models: a clear error or a load`);
    expect(stdout).toContain("loaded");
  },
  COUNT * 1000,
);
