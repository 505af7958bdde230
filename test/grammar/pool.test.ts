/** Real workers with a vocabulary of bytes and a few tokens more; the engine's end of the channel is used from here. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import type { TokenMatcher } from "../../src/core/constraint.js";
import { packBytes } from "../../src/core/packed-bytes.js";
import { OctavoError } from "../../src/core/errors.js";
import { GrammarPool } from "../../src/grammar/grammar-pool.js";
import type {
  GrammarLease,
  GrammarPoolOptions,
} from "../../src/grammar/grammar-pool.js";
import { MaskClient } from "../../src/grammar/mask-client.js";
import type { GrammarSpec } from "../../src/grammar/spec.js";
import { vocabularyOf } from "../../src/grammar/vocabulary.js";

const EOS = 256;
const CALL = 257;
const AB = 258;
const VOCAB = 300;

const tokenizer = {
  specialTokenIds: new Set([EOS, CALL]),
  packedTokens: packBytes([
    ...Array.from({ length: EOS }, (_, byte) => Uint8Array.of(byte)),
    ...["</s>", "<call>", "ab"].map((text) => Buffer.from(text)),
  ]),
};

const pools: GrammarPool[] = [];
afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.close()));
});

function makePool(options: Partial<GrammarPoolOptions> = {}) {
  const client = new MaskClient();
  const pool = new GrammarPool({
    vocabulary: () => vocabularyOf(tokenizer, VOCAB, [EOS]),
    words: Math.ceil(VOCAB / 32),
    maxRows: 8,
    canEnd: true,
    attach: (channel, memory, sizes) => client.attach(channel, memory, sizes),
    workerUrl: new URL(
      "../../dist/src/grammar/grammar-worker.js",
      import.meta.url,
    ),
    ...options,
  });
  pools.push(pool);
  return { pool, client };
}

const NO_DRAFTS = new Int32Array(0);

/** Ids that may follow `text` (bytes) and then `tokens`. */
function allowed(
  matcher: TokenMatcher,
  text: string,
  tokens: number[] = [],
): number[] | null {
  const all = Int32Array.from([...Buffer.from(text), ...tokens]);
  matcher.begin(all, 0, all.length, NO_DRAFTS, 3);
  return idsOf(matcher.finish(3));
}

function idsOf(mask: ReturnType<TokenMatcher["finish"]>): number[] | null {
  expect(mask).toBeDefined();
  expect(mask).not.toBe("late");
  if (!mask || mask === "late") return null;
  const ids: number[] = [];
  for (let id = 0; id < VOCAB; id++)
    if (((mask[id >>> 5] ?? 0) >>> (id & 31)) & 1) ids.push(id);
  return ids;
}

/** What may follow "b" takes seconds to find: it ends any number of rules that lead to each other in two ways each. */
function slowBehindB(): GrammarSpec {
  const rules = Array.from(
    { length: 1000 },
    (_, i) => `r${i} ::= r${i + 1} | r${i + 1} "a"`,
  );
  const grammar = ["root ::= r0", ...rules, 'r1000 ::= "b"'];
  return { kind: "ebnf", grammar: grammar.join("\n"), param: "g" };
}

const byte = (char: string): number => char.charCodeAt(0);

function choice(...texts: string[]): GrammarSpec {
  return {
    kind: "choice",
    parts: texts.map((text) => ({ kind: "text", text })),
  };
}

const digits: GrammarSpec = { kind: "regex", pattern: "[0-9]+", param: "p" };

describe("a grammar in the pool", () => {
  it("gives the masks of what may follow, and the end only at its end", async () => {
    const { pool, client } = makePool();
    const lease = await pool.acquire(choice("abc", "abd", "x<call>"));
    const matcher = client.open(lease.ref);
    expect(allowed(matcher, "")).toEqual([byte("a"), byte("x"), AB]);
    expect(allowed(matcher, "a")).toEqual([byte("b")]);
    expect(allowed(matcher, "ab")).toEqual([byte("c"), byte("d")]);
    expect(allowed(matcher, "abc")).toEqual([EOS]);
    expect(allowed(matcher, "abc", [EOS])).toBeNull();
    // A special token follows only where it is named, and its letters never do.
    const other = client.open(lease.ref);
    expect(allowed(other, "x")).toEqual([CALL]);
    expect(allowed(other, "x", [CALL])).toEqual([EOS]);
    const wrong = client.open(lease.ref);
    expect(allowed(wrong, "q")).toBeNull();
    for (const each of [matcher, other, wrong]) each.close();
  });

  it("ends with a token that the tokenizer does not have", async () => {
    const padding = VOCAB - 1;
    const { pool, client } = makePool({
      vocabulary: () => vocabularyOf(tokenizer, VOCAB, [padding]),
    });
    const lease = await pool.acquire(choice("abc"));
    expect(lease.ref.endTokenIds).toEqual([padding]);
    const matcher = client.open(lease.ref);
    expect(allowed(matcher, "abc")).toEqual([padding]);
    expect(allowed(matcher, "abc", [padding])).toBeNull();
  });

  it("keeps the text well-formed UTF-8, and special tokens out of an EBNF grammar", async () => {
    const { pool, client } = makePool();
    const lease = await pool.acquire({
      kind: "ebnf",
      grammar: 'root ::= [^"]*',
      param: "g",
    });
    const matcher = client.open(lease.ref);
    const first = allowed(matcher, "");
    expect(first).not.toContain(CALL);
    expect(first).not.toContain(0xc0);
    expect(first).not.toContain(0x80);
    expect(first).toContain(0xe2);
    const behind = allowed(matcher, "", [0xe2, 0x82]);
    expect(behind?.every((id) => id >= 0x80 && id <= 0xbf)).toBe(true);
  });

  it("makes a mask behind each draft, and goes back", async () => {
    const { pool, client } = makePool();
    const lease = await pool.acquire(choice("abc", "xyz"));
    const matcher = client.open(lease.ref);
    const tokens = Int32Array.from([byte("a")]);
    const drafts = Int32Array.from([byte("b"), byte("q"), byte("c")]);
    matcher.begin(tokens, 0, 1, drafts, 2);
    expect(idsOf(matcher.finish(2))).toEqual([byte("b")]);
    expect(idsOf(matcher.finish(3))).toEqual([byte("c")]);
    expect(matcher.finish(4)).toBeNull();
    expect(matcher.finish(5)).toBeNull();
    expect(allowed(matcher, "ab")).toEqual([byte("c")]);
  });

  it("is compiled once for all who ask, and counted until the last lets go", async () => {
    const { pool } = makePool();
    const leases = await Promise.all([
      pool.acquire(digits),
      pool.acquire(digits),
    ]);
    const third = await pool.acquire(digits);
    expect(new Set([...leases, third].map(({ ref }) => ref.grammar)).size).toBe(
      1,
    );
    expect(pool.numLeases).toBe(3);
    for (const lease of [...leases, third, third]) lease.release();
    expect(pool.numLeases).toBe(0);
  });
});

describe("a grammar that can't be had", () => {
  it("finds a worker that has practised, or stops practising", async () => {
    const { pool, client } = makePool();
    const warm = pool.warmUp();
    const early = await pool.acquire(digits);
    await warm;
    const late = await pool.acquire(choice("abc"));
    expect(early.ref.channel).toBe(0);
    expect(allowed(client.open(late.ref), "a")).toEqual([byte("b")]);
    expect(allowed(client.open(early.ref), "7")).toContain(EOS);
  });

  it("needs no practice where the model can't end, or nobody is left to ask", async () => {
    await makePool({ canEnd: false }).pool.warmUp();
    const { pool } = makePool();
    const warm = pool.warmUp();
    await pool.close();
    await warm;
    await pool.warmUp();
  });

  it("is refused, and the others go on", async () => {
    const { pool, client } = makePool();
    const good = await pool.acquire(digits);
    const matcher = client.open(good.ref);
    expect(allowed(matcher, "1")).toContain(byte("2"));
    const bad: GrammarSpec = {
      kind: "ebnf",
      grammar: "root ::= (",
      param: "g",
    };
    await expect(pool.acquire(bad)).rejects.toMatchObject({
      code: "invalid_request",
      param: "g",
      message: expect.stringMatching(
        /^g: line 1, column 10: a group is not closed/,
      ),
    });
    expect(allowed(matcher, "12")).toContain(byte("3"));
    // The worker that gave up is followed by another.
    const next = await pool.acquire(choice("after"));
    expect(allowed(client.open(next.ref), "")).toEqual([byte("a")]);
  });

  it("takes no other with it that is asked for at the same time or afterwards", async () => {
    const { pool, client } = makePool({ maxWorkers: 1 });
    const first = await pool.acquire(digits);
    const bad: GrammarSpec = { kind: "ebnf", grammar: "root ::= (", param: "" };
    const [good, refusal] = [pool.acquire(choice("b")), pool.acquire(bad)];
    first.release();
    await expect(refusal).rejects.toThrow(/not closed/);
    // The engine waits for masks without turns of this thread's event loop, on which a worker is replaced.
    const lease = await good;
    expect(allowed(client.open(lease.ref), "")).toEqual([byte("b")]);
    lease.release();
    await expect(pool.acquire(bad)).rejects.toThrow(/not closed/);
    const again = await pool.acquire(choice("b"));
    expect(allowed(client.open(again.ref), "")).toEqual([byte("b")]);
  });

  it("is given up when it takes too long", async () => {
    const { pool } = makePool({ timeoutMs: 1 });
    await expect(pool.acquire(digits)).rejects.toMatchObject({
      param: "p",
      message: expect.stringContaining("too complex"),
    });
    expect(pool.numLeases).toBe(0);
  });

  it("is refused when it is too large, or when the model can't end", async () => {
    const pattern = "a".repeat(300_000);
    const spec: GrammarSpec = { kind: "regex", pattern, param: "p" };
    await expect(makePool().pool.acquire(spec)).rejects.toThrow(
      /at most 262144/,
    );
    await expect(
      makePool({ canEnd: false }).pool.acquire(digits),
    ).rejects.toThrow(/no end-of-sequence/);
  });
});

describe("one worker", () => {
  it("hands nothing out while it compiles", async () => {
    const { pool } = makePool({ maxWorkers: 2 });
    const first = await pool.acquire(digits);
    first.release();
    const compiling = pool.acquire(choice("b"));
    const again = await pool.acquire(digits);
    expect((await compiling).ref.channel).toBe(first.ref.channel);
    expect(again.ref.channel).not.toBe(first.ref.channel);
  });

  it("compiles for the next only when nobody uses it, in order", async () => {
    const { pool } = makePool({ maxWorkers: 1 });
    const first = await pool.acquire(digits);
    const events: string[] = [];
    const ask = async (name: string, spec: GrammarSpec) => {
      const lease = await pool.acquire(spec);
      events.push(name);
      return lease;
    };
    const second = ask("second", choice("b"));
    // It is being emptied for the second, so the grammar that it has is not handed out either.
    const again = ask("again", digits);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(events).toEqual([]);
    expect(pool.numWaiting).toBe(2);
    first.release();
    const leases: GrammarLease[] = await Promise.all([second, again]);
    expect(events).toEqual(["second", "again"]);
    for (const lease of leases) lease.release();
    expect(pool.numLeases).toBe(0);
  });

  it("that dies is followed by another, in which matchers are rebuilt from their tokens", async () => {
    // A mask may take less time than the successor to come.
    const client = new MaskClient(20_000, 50);
    const { pool } = makePool({
      maxWorkers: 1,
      attach: (channel, memory, sizes) => client.attach(channel, memory, sizes),
    });
    const lease = await pool.acquire(choice("abcdef"));
    const matcher = client.open(lease.ref);
    expect(allowed(matcher, "abc")).toEqual([byte("d")]);
    const [worker] = (
      pool as unknown as {
        workers: { thread: { terminate(): Promise<number> } | null }[];
      }
    ).workers;
    const before = worker?.thread;
    await before?.terminate();
    await expect
      .poll(() => worker?.thread !== before && worker?.thread)
      .toBeTruthy();
    expect(allowed(matcher, "abcd")).toEqual([byte("e")]);
    expect(allowed(matcher, "abcde")).toEqual([byte("f")]);
    lease.release();
    const other = await pool.acquire(digits);
    expect(allowed(client.open(other.ref), "")).toContain(byte("7"));
  });

  it("that is slow to make a mask gives none, and others get theirs from its successor", async () => {
    const client = new MaskClient(20_000, 200);
    const { pool } = makePool({
      maxWorkers: 1,
      attach: (channel, memory, sizes) => client.attach(channel, memory, sizes),
    });
    // What waits while the only worker is in use comes into it together.
    const before = await pool.acquire(digits);
    const both = Promise.all([
      pool.acquire(slowBehindB()),
      pool.acquire(choice("abc")),
    ]);
    before.release();
    const [slow, quick] = await both;
    const matcher = client.open(slow.ref);
    const other = client.open(quick.ref);
    expect(allowed(matcher, "")).toEqual([byte("b")]);
    expect(allowed(other, "a")).toEqual([byte("b")]);
    matcher.begin(Int32Array.of(byte("b")), 0, 1, NO_DRAFTS, 3);
    expect(matcher.finish(3)).toBe("late");
    slow.release();
    const [worker] = (pool as unknown as { workers: { thread: object }[] })
      .workers;
    const late = worker?.thread;
    await expect
      .poll(() => worker?.thread !== late && worker?.thread)
      .toBeTruthy();
    const successor = worker?.thread;
    // It is not given up for what the one before it was.
    await sleep(500);
    expect(worker?.thread).toBe(successor);
    expect(allowed(other, "ab")).toEqual([byte("c")]);
  });

  it("that ends for good ends what waits", async () => {
    const { pool } = makePool({ maxWorkers: 1 });
    await pool.acquire(digits);
    const waiting = pool.acquire(choice("b"));
    const told = expect(waiting).rejects.toBeInstanceOf(OctavoError);
    await pool.close();
    await told;
  });
});
