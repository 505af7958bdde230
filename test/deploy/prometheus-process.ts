import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import os from "node:os";
import path from "node:path";

/** Whether Debian's package `prometheus` (which has promtool too) is installed. */
export const hasPrometheus =
  spawnSync("prometheus", ["--version"]).status === 0 &&
  spawnSync("promtool", ["--version"]).status === 0;

export interface Sample {
  labels: Record<string, string>;
  value: number;
}

export interface PrometheusProcess {
  /** An instant query; empty: no data. Throws what Prometheus says of a bad expression. */
  query(expression: string): Promise<Sample[]>;
  stop(): Promise<void>;
}

/** A real Prometheus that scrapes `target` (host:port) several times a second, with rules. */
export async function startPrometheus(
  target: string,
  ruleFiles: readonly string[],
): Promise<PrometheusProcess> {
  const directory = mkdtempSync(path.join(os.tmpdir(), "octavo-prometheus-"));
  const config = path.join(directory, "prometheus.json");
  writeFileSync(
    config,
    // JSON is YAML.
    JSON.stringify({
      global: { scrape_interval: "400ms", evaluation_interval: "500ms" },
      rule_files: ruleFiles,
      scrape_configs: [
        { job_name: "octavo", static_configs: [{ targets: [target] }] },
      ],
    }),
  );
  const address = `127.0.0.1:${await freePort()}`;
  const child = spawn(
    "prometheus",
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${path.join(directory, "data")}`,
      `--web.listen-address=${address}`,
      "--log.level=warn",
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  let log = "";
  child.stderr.on("data", (chunk: Buffer) => (log += chunk.toString()));
  const ended = new Promise<void>((resolve) =>
    child.on("exit", () => resolve()),
  );
  const stop = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
    rmSync(directory, { recursive: true, force: true });
  };
  const deadline = Date.now() + 20_000;
  for (;;) {
    const ready = await fetch(`http://${address}/-/ready`).catch(() => null);
    if (ready?.ok) break;
    if (child.exitCode !== null || Date.now() > deadline) {
      await stop();
      throw new Error(`prometheus does not start:\n${log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return { stop, query: (expression) => query(address, expression) };
}

async function query(address: string, expression: string): Promise<Sample[]> {
  const response = await fetch(`http://${address}/api/v1/query`, {
    method: "POST",
    body: new URLSearchParams({ query: expression }),
  });
  const answer = (await response.json()) as {
    error?: string;
    data?: {
      result: { metric: Record<string, string>; value: [number, string] }[];
    };
  };
  if (answer.data === undefined)
    throw new Error(`${expression}: ${answer.error ?? response.status}`);
  return answer.data.result.map(({ metric, value }) => ({
    labels: metric,
    value: Number(value[1]),
  }));
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve()),
  );
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
