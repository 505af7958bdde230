import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { recordingProxy, wireFigures } from "./recording-proxy.js";

export type WireFigures = ReturnType<typeof wireFigures>;

export interface ProxyProcess {
  url: string;
  /** Of all requests so far; times by the proxy's own clock. */
  figures(): Promise<WireFigures[]>;
  close(): void;
}

/** The recording proxy in a process of its own: what the client does cannot delay its clock. */
export async function proxyProcess(target: string): Promise<ProxyProcess> {
  const child = fork(fileURLToPath(import.meta.url), [target], {
    execArgv: ["--import", "tsx"],
  });
  const next = <T>(): Promise<T> =>
    new Promise((resolve, reject) => {
      child.once("message", (message) => resolve(message as T));
      child.once("exit", (code) =>
        reject(new Error(`the proxy ended with ${code}`)),
      );
    });
  const url = await next<string>();
  return {
    url,
    figures: () => {
      const answer = next<WireFigures[]>();
      child.send("figures");
      return answer;
    },
    close: () => void child.kill(),
  };
}

/** Run as the process itself. */
const target = process.argv[2];
if (
  process.send !== undefined &&
  process.argv[1] === fileURLToPath(import.meta.url) &&
  target !== undefined
) {
  const proxy = await recordingProxy(target);
  process.on("message", () => process.send?.(proxy.exchanges.map(wireFigures)));
  process.on("disconnect", () => process.exit());
  process.send(proxy.url);
}
