import { customPrompts, shareGpt, specBench } from "./conversations.js";
import type { DatasetSettings, PromptContext } from "./dataset-settings.js";
import type { Sample } from "./outcome.js";
import { prefixRepetition, randomPrompts } from "./synthetic.js";
import { tracePrompts } from "./trace.js";

/** The requests of a run, the same for the same settings. Errors: `invalid_config` that names the flag or the line. */
export async function loadDataset(
  settings: DatasetSettings,
  context: PromptContext,
): Promise<Sample[]> {
  switch (settings.name) {
    case "random":
      return randomPrompts(settings, context);
    case "prefix_repetition":
      return prefixRepetition(settings, context);
    case "trace":
      return tracePrompts(settings, context);
    case "sharegpt":
      return shareGpt(settings, context);
    case "custom":
      return customPrompts(settings);
    case "spec_bench":
      return specBench(settings);
  }
}
