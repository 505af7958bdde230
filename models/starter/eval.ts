/**
 * Asks the starter model what it was not trained on, in words that it was not trained on, at temperature 0.
 *
 *     npm run eval:starter -- [--model DIR ...] [--draft DIR] [--cases 200] [--cpu-activations int8|f32] [--json FILE]
 *
 * Without --model: the starter, its INT4 form and the draft. Prints each task's share of right answers, the perplexity of
 * held-out conversations, and how often the draft agrees with the first model's tokens.
 */
import { existsSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { Voice } from "./corpus/dialogue.js";
import { dialogue } from "./corpus/mixture.js";
import { SEED, TASKS } from "./eval/tasks.js";
import { Session } from "./eval/session.js";

const HERE = import.meta.dirname;
interface Report {
  model: string;
  tasks: Record<string, number>;
  perplexity: number;
}

/** @returns the report and the answers, as prompts with what was said */
async function evaluate(
  session: Session,
  directory: string,
  numCases: number,
): Promise<{ report: Report; spoken: Spoken[] }> {
  const tasks: Record<string, number> = {};
  const spoken: Spoken[] = [];
  console.log(`\n${directory}`);
  for (const [i, task] of TASKS.entries()) {
    const voice = new Voice(SEED, true, i);
    const cases = Array.from({ length: numCases }, () => task.make(voice));
    const answers = await session.answer(cases.map((one) => one.dialogue));
    const wrong = answers.findIndex(
      (answer, k) => cases[k]?.right(answer.text) === false,
    );
    const share =
      answers.filter((answer, k) => cases[k]?.right(answer.text)).length /
      cases.length;
    tasks[task.name] = share;
    for (const answer of answers)
      spoken.push({ prompt: answer.prompt, tokens: answer.tokens });
    const target =
      task.target === undefined
        ? ""
        : share >= task.target
          ? `  (at least ${percent(task.target)}: yes)`
          : `  (at least ${percent(task.target)}: NO)`;
    console.log(
      `  ${task.name.padEnd(24)} ${percent(share).padStart(7)}${target}`,
    );
    if (wrong >= 0) {
      const asked = cases[wrong]?.dialogue.messages.at(-1)?.content ?? "";
      console.log(
        `      wrong: ${JSON.stringify(asked)} -> ${JSON.stringify(answers[wrong]?.text ?? "")}`,
      );
    }
  }
  const voice = new Voice(SEED, true, 1000);
  const perplexity = await session.perplexity(
    Array.from({ length: numCases }, () => dialogue(voice, 2)),
  );
  console.log(`  perplexity, held out     ${perplexity.toFixed(4)}`);
  return {
    report: { model: relative(process.cwd(), directory), tasks, perplexity },
    spoken,
  };
}

interface Spoken {
  prompt: readonly number[];
  tokens: readonly number[];
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      model: { type: "string", multiple: true },
      draft: { type: "string" },
      cases: { type: "string", default: "200" },
      "cpu-activations": { type: "string", default: "auto" },
      json: { type: "string" },
    },
  });
  const cpuActivations = values["cpu-activations"];
  if (
    cpuActivations !== "auto" &&
    cpuActivations !== "int8" &&
    cpuActivations !== "f32"
  )
    throw new Error(
      `--cpu-activations: expected auto, int8 or f32, got "${cpuActivations}"`,
    );
  const models =
    values.model ??
    [HERE, join(HERE, "awq")].filter((directory) =>
      existsSync(join(directory, "config.json")),
    );
  const draft =
    values.draft ?? (values.model ? undefined : join(HERE, "draft"));
  const reports: Report[] = [];
  let spoken: Spoken[] = [];
  for (const [i, directory] of models.entries()) {
    const session = await Session.open(directory, { cpuActivations });
    const result = await evaluate(session, directory, Number(values.cases));
    session.close();
    reports.push(result.report);
    if (i === 0) spoken = result.spoken;
  }
  let agreement: number | undefined;
  if (draft !== undefined && existsSync(join(draft, "config.json"))) {
    const session = await Session.open(draft);
    agreement = await session.agreement(spoken);
    session.close();
    console.log(
      `\n${draft}\n  agrees with the first model's next token (greedy): ${percent(agreement)}`,
    );
  }
  if (values.json !== undefined)
    writeFileSync(
      values.json,
      `${JSON.stringify({ cases: Number(values.cases), reports, draft: agreement }, null, 1)}\n`,
    );
}

await main();
