/** Octavo's engine in a process of its own, without HTTP and text. */
import { ENGINE_DEFAULTS } from "../../src/core/config.js";
import { VERSION } from "../../src/cli/version.js";
import { InProcessEngine } from "../engine/in-process.js";
import { failToStart, peerSettings, serveJobs } from "./protocol.js";

async function main(): Promise<void> {
  const { model, threads, maxStreams, maxTokens, options } = peerSettings();
  const engine = await InProcessEngine.start(
    {
      ...ENGINE_DEFAULTS,
      model,
      device: "cpu",
      threads,
      maxNumSeqs: maxStreams,
      maxModelLen: maxTokens,
      enablePrefixCaching: false,
      ...options,
    },
    () => undefined,
  );
  serveJobs(`octavo ${VERSION}`, (job) => {
    const tokens: number[][] = job.prompts.map(() => []);
    const { timings } = engine.run(
      job.prompts.map((prompt) => ({
        promptTokenIds: Int32Array.from(prompt),
        outputLen: job.outputLen,
      })),
      {
        temperature: 0,
        ignoreEos: true,
        seed: 0,
        onToken: (index, token) => tokens[index]?.push(token),
      },
    );
    return Promise.resolve({
      firstToken: timings.map(({ firstToken }) => firstToken),
      lastToken: timings.map(({ lastToken }) => lastToken),
      tokens,
    });
  });
}

main().catch(failToStart);
