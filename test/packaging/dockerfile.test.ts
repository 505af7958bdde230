import { spawn } from "node:child_process";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { SERVE_FLAGS } from "../../src/cli/serve-flags.js";
import { environmentName } from "../../src/cli/flags.js";

/* No Docker engine builds the image in CI: what can be known of Dockerfile.cuda without one is held here. */

interface Instruction {
  name: string;
  value: string;
}

interface Stage {
  name: string;
  base: string;
  instructions: Instruction[];
}

const KNOWN =
  /^(ARG|FROM|LABEL|RUN|COPY|ENV|VOLUME|USER|WORKDIR|EXPOSE|STOPSIGNAL|HEALTHCHECK|ENTRYPOINT|CMD)$/;

/** Comments dropped, continued lines joined. */
function parse(text: string): Instruction[] {
  const lines = text.split("\n").filter((line) => !/^\s*#/.test(line));
  return lines
    .join("\n")
    .replace(/\\\n\s*/g, "")
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => {
      const [, name = "", value = ""] = /^(\S+)\s+(.*)$/.exec(line) ?? [];
      return { name, value };
    });
}

const instructions = parse(readFileSync("Dockerfile.cuda", "utf8"));
const stages: Stage[] = [];
for (const { name, value } of instructions) {
  if (name === "FROM") {
    const [base = "", , alias = ""] = value.split(/\s+/);
    stages.push({ name: alias, base, instructions: [] });
  } else stages.at(-1)?.instructions.push({ name, value });
}
const last = stages.at(-1) as Stage;
const all = (stage: Stage, name: string): string[] =>
  stage.instructions.filter((i) => i.name === name).map((i) => i.value);
const one = (name: string): string => {
  const values = all(last, name);
  expect(values, name).toHaveLength(1);
  return values[0] ?? "";
};
const environment = new Map(
  all(last, "ENV")
    .flatMap((value) => value.split(/\s+/))
    .map((pair) => pair.split("=") as [string, string]),
);

/** Exit code of the health check against a server on `port`. */
function runCheck(script: string, port: number): Promise<number | null> {
  const child = spawn(process.execPath, ["-e", script], {
    env: { OCTAVO_PORT: String(port) },
    stdio: "ignore",
  });
  return new Promise((resolve) => child.on("exit", resolve));
}

describe("Dockerfile.cuda", () => {
  it("has instructions that exist, and stages that follow from named arguments", () => {
    for (const { name } of instructions) expect(name).toMatch(KNOWN);
    expect(stages.map(({ name }) => name)).toEqual(["node", "build", ""]);
    const defaults = new Map(
      instructions
        .filter(({ name }) => name === "ARG")
        .map(({ value }) => value.split("=") as [string, string]),
    );
    for (const { base } of stages) {
      const image = base.replace(
        /\$\{(\w+)\}/g,
        (_, name: string) => defaults.get(name) ?? "unset",
      );
      // A version, never whatever is the latest.
      expect(image).toMatch(/^[a-z/]+:\d[\w.-]*$/);
    }
    const [, build] = stages;
    expect(build?.base).toContain("-devel-");
    expect(last.base).not.toContain("-devel-");
  });

  it("copies from stages before, and from the repository what is there and not ignored", () => {
    const ignored = readFileSync(".dockerignore", "utf8")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"));
    const known: string[] = [];
    for (const stage of stages) {
      for (const value of all(stage, "COPY")) {
        const words = value.split(/\s+/);
        const from = words.find((word) => word.startsWith("--from="));
        if (from !== undefined) {
          expect(known).toContain(from.slice("--from=".length));
          continue;
        }
        for (const source of words.slice(0, -1)) {
          expect(existsSync(source), source).toBe(true);
          expect(ignored).not.toContain(source);
        }
      }
      known.push(stage.name);
    }
    for (const built of ["node_modules", "dist", "build", ".git"])
      expect(ignored).toContain(built);
    // What the build reads.
    for (const needed of ["src", "models", "native", "kernels", "bench"])
      expect(ignored).not.toContain(needed);
  });

  it("runs scripts that package.json has, and leaves no package lists", () => {
    const { scripts } = JSON.parse(readFileSync("package.json", "utf8")) as {
      scripts: Record<string, string>;
    };
    const commands = stages.flatMap((stage) => all(stage, "RUN"));
    const used = commands.flatMap((text) =>
      [...text.matchAll(/npm run ([\w:]+)/g)].map(([, script = ""]) => script),
    );
    expect(used).toEqual(["build", "build:cuda", "bundle"]);
    for (const script of used) expect(scripts).toHaveProperty([script]);
    for (const text of commands.filter((text) => text.includes("apt-get"))) {
      expect(text).toContain("--no-install-recommends");
      expect(text).toContain("rm -rf /var/lib/apt/lists/*");
    }
  });

  it("serves as a user of its own, who owns the cache", () => {
    const names = last.instructions.map(({ name }) => name);
    expect(names.indexOf("USER")).toBeGreaterThan(names.lastIndexOf("RUN"));
    const user = one("USER");
    expect(user).not.toMatch(/^(root|0)\b/);
    expect(one("RUN")).toContain(`useradd --system --uid 10001`);
    const cache = one("VOLUME");
    expect(one("RUN")).toMatch(
      new RegExp(`--owner=${user} --group=${user} ${cache}$`),
    );
    for (const variable of ["HF_HOME", "XDG_CACHE_HOME"])
      expect(environment.get(variable)).toMatch(new RegExp(`^${cache}`));
  });

  it("sets flags that exist, and asks /live on the port that it serves on", async () => {
    const known = SERVE_FLAGS.map(({ name }) => environmentName(name));
    for (const variable of environment.keys())
      if (variable.startsWith("OCTAVO_")) expect(known).toContain(variable);
    expect(environment.get("OCTAVO_HOST")).toBe("0.0.0.0");
    expect(one("EXPOSE")).toBe(environment.get("OCTAVO_PORT"));
    const check = one("HEALTHCHECK");
    const [program, , script = ""] = JSON.parse(
      check.slice(check.indexOf("CMD ") + 4),
    ) as string[];
    expect(program).toBe("/opt/octavo/bin/node");
    expect(script).toContain("/live");
    let status = 200;
    const server = createServer((request, response) => {
      response.statusCode = request.url === "/live" ? status : 404;
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, resolve));
    const { port } = server.address() as AddressInfo;
    expect(await runCheck(script, port)).toBe(0);
    status = 503;
    expect(await runCheck(script, port)).toBe(1);
    await new Promise((resolve) => server.close(resolve));
    expect(await runCheck(script, port)).toBe(1);
    const [entry] = JSON.parse(one("ENTRYPOINT")) as string[];
    expect(entry).toBe("/opt/octavo/octavo");
    expect(JSON.parse(one("CMD"))).toEqual(["serve"]);
  });
});
