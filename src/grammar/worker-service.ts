import {
  parentPort,
  receiveMessageOnPort,
  workerData,
} from "node:worker_threads";
import { assert, OctavoError } from "../core/errors.js";
import { Header, viewChannel } from "./channel.js";
import { Matchers } from "./matchers.js";
import type {
  FromGrammarWorker,
  GrammarWorkerData,
  ToGrammarWorker,
} from "./messages.js";
import { buildEbnf } from "./spec.js";
import type { GrammarSpec } from "./spec.js";
import { Vocabulary } from "./vocabulary.js";
import { practise } from "./warm-up.js";
import { loadXGrammar } from "./xgrammar.js";
import type { GrammarCompiler } from "./xgrammar.js";

/** What XGrammar said last before it gave up. */
let lastWords = "";

/** A grammar worker: sleeps on its bell; works through its messages, then through the engine's commands. */
export async function serve(): Promise<void> {
  assert(parentPort !== null, "grammar-worker.js is the entry of a worker");
  const port = parentPort;
  const { memory, sizes, vocabulary, restore, practiseWhile } =
    workerData as GrammarWorkerData;
  const post = (message: FromGrammarWorker): void => port.postMessage(message);
  let compiling = -1;
  try {
    // Set before the module is loaded: it binds what it finds.
    console.error = (...words: unknown[]) => {
      const line = words.map(String).join(" ");
      if (line.includes("[FATAL]")) lastWords = line;
    };
    const xgrammar = await loadXGrammar();
    const words = new Vocabulary(vocabulary);
    const info = await xgrammar.TokenizerInfo.createTokenizerInfo(
      words.encoded(),
      "byte_level",
      false,
      vocabulary.vocabSize,
      vocabulary.eosTokenIds,
    );
    // Cached compilers keep every grammar for ever; we keep those in use.
    const compiler = await xgrammar.GrammarCompiler.createGrammarCompiler(
      info,
      false,
    );
    const channel = viewChannel(memory, sizes);
    const matchers = new Matchers(xgrammar, words, channel);
    const compile = async (grammar: number, spec: GrammarSpec) => {
      compiling = grammar;
      await compileInto(matchers, compiler, words, grammar, spec);
      compiling = -1;
    };
    for (const { grammar, spec } of restore) await compile(grammar, spec);
    matchers.start();
    post({ type: "ready" });
    if (practiseWhile !== null) {
      const isWanted = () =>
        Atomics.load(channel.header, Header.bell) !== practiseWhile;
      await practise(xgrammar, compiler, words, isWanted);
      post({ type: "warm" });
    }
    for (;;) {
      const rung = Atomics.load(channel.header, Header.bell);
      for (;;) {
        const received = receiveMessageOnPort(port);
        if (!received) break;
        const message = received.message as ToGrammarWorker;
        if (message.type === "close") return port.close();
        if (message.type === "forget") matchers.forget(message.grammar);
        else await answer(message.grammar, message.spec, compile, post);
      }
      await matchers.work();
      Atomics.wait(channel.header, Header.bell, rung);
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    post({
      type: "aborted",
      grammar: compiling,
      reason: lastWords === "" ? reason : withoutSource(lastWords),
    });
    port.close();
  }
}

async function answer(
  grammar: number,
  spec: GrammarSpec,
  compile: (grammar: number, spec: GrammarSpec) => Promise<void>,
  post: (message: FromGrammarWorker) => void,
): Promise<void> {
  try {
    await compile(grammar, spec);
    post({ type: "compiled", grammar });
  } catch (error) {
    if (!(error instanceof OctavoError)) throw error;
    const { code, message, param } = error;
    post({ type: "refused", grammar, error: { code, message, param } });
  }
}

async function compileInto(
  matchers: Matchers,
  compiler: GrammarCompiler,
  vocabulary: Vocabulary,
  grammar: number,
  spec: GrammarSpec,
): Promise<void> {
  const ebnf = buildEbnf(spec, vocabulary.spell);
  lastWords = "";
  const compiled = await compiler.compileGrammar(ebnf);
  // In a grammar from outside a class may hold the mark of special tokens.
  matchers.add(grammar, compiled, spec.kind === "ebnf");
}

/** `[FATAL] /build/path/grammar_parser.cc:552: EBNF parser error at line 1 ...` -> what follows the place. */
function withoutSource(line: string): string {
  return line.replace(/^.*?\[FATAL\]\s*(\S+:\d+:\s*)?/, "").trim();
}
