import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { existsSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import {
  event,
  finish,
  scriptedServer,
  sleep,
  type Script,
  type ScriptedServer,
} from "../bench/scripted-server.js";
import {
  hasShared,
  MAIN,
  startServer,
  STORIES,
} from "../e2e/server-process.js";

const TEMPLATE =
  "{{ bos_token }}{% for message in messages %}{{ message.content }} {% endfor %}";

/** A chat that is written to and read from. */
class Chat {
  out = "";
  err = "";
  readonly ended: Promise<number | NodeJS.Signals>;
  private readonly changed = new Set<() => void>();

  constructor(readonly process: ChildProcess) {
    process.stdout?.on("data", (bytes: Buffer) => {
      this.out += bytes.toString("utf8");
      this.changed.forEach((tell) => tell());
    });
    process.stderr?.on("data", (bytes: Buffer) => {
      this.err += bytes.toString("utf8");
      this.changed.forEach((tell) => tell());
    });
    this.ended = new Promise((resolve) =>
      process.on("close", (code, signal) => resolve(code ?? signal ?? -1)),
    );
  }

  write(text: string): void {
    this.process.stdin?.write(text);
  }

  /** Until what came (stdout, then stderr) holds `text`. */
  async see(text: string): Promise<void> {
    while (!`${this.out}\n${this.err}`.includes(text)) {
      const change = new Promise<"change">((resolve) =>
        this.changed.add(() => resolve("change")),
      );
      const first = await Promise.race([change, this.ended]);
      if (first !== "change" && !`${this.out}\n${this.err}`.includes(text))
        throw new Error(
          `the chat ended without "${text}":\n${this.out}\n${this.err}`,
        );
    }
  }

  async end(input = ""): Promise<number | NodeJS.Signals> {
    this.process.stdin?.end(input);
    return this.ended;
  }
}

function chat(args: string[], env: NodeJS.ProcessEnv = {}): Chat {
  return new Chat(
    spawn(process.execPath, [MAIN, "chat", ...args], {
      env: { ...process.env, ...env },
      stdio: ["pipe", "pipe", "pipe"],
    }),
  );
}

/** Text of a chat's answer. */
function say(response: Parameters<Script>[0], content: string): void {
  event(response, { choices: [{ index: 0, delta: { content } }] });
}

function stop(response: Parameters<Script>[0], reason = "stop"): void {
  event(response, {
    choices: [{ index: 0, delta: {}, finish_reason: reason }],
  });
}

describe.skipIf(!existsSync(MAIN))("octavo chat --url (needs dist/)", () => {
  let server: ScriptedServer;
  afterEach(() => server.close());

  const echo: Script = (response, index) => {
    say(response, `answer ${index}`);
    stop(response);
    finish(response, 5, 2);
  };
  const messages = (index: number): unknown =>
    server.received[index]?.body["messages"];

  it("keeps the conversation, and sends the settings and the key", async () => {
    server = await scriptedServer(echo);
    const talk = chat([
      ...["--url", `${server.url}/v1/`, "--api-key", "secret"],
      ...["--system", "Be brief.", "--temperature", "0.5", "--top-p", "0.9"],
      ...["--max-tokens", "7", "--seed", "3"],
    ]);
    expect(await talk.end("one\ntwo\\\nthree\n")).toBe(0);
    expect(talk.out).toBe("answer 0\nanswer 1\n");
    expect(talk.err).toMatch(/\(2 tokens.*TTFT \d+\.\d{3} s\)/);
    expect(server.received[1]).toMatchObject({
      authorization: "Bearer secret",
      body: {
        model: "scripted",
        temperature: 0.5,
        top_p: 0.9,
        max_tokens: 7,
        seed: 3,
        stream: true,
      },
    });
    expect(messages(1)).toEqual([
      { role: "system", content: "Be brief." },
      { role: "user", content: "one" },
      { role: "assistant", content: "answer 0" },
      { role: "user", content: "two\nthree" },
    ]);
  });

  it("knows its commands and tells when it doesn't", async () => {
    server = await scriptedServer(echo);
    const talk = chat(["--url", server.url]);
    const lines = [
      "one",
      "/reset",
      "/system Speak French.",
      "two",
      "/system",
      "/frobnicate",
      "//three",
      "/help",
      "/exit",
      "never sent",
    ];
    expect(await talk.end(lines.join("\n"))).toBe(0);
    expect(messages(1)).toEqual([
      { role: "system", content: "Speak French." },
      { role: "user", content: "two" },
    ]);
    expect(messages(2)).toEqual([
      { role: "user", content: "two" },
      { role: "assistant", content: "answer 1" },
      { role: "user", content: "/three" },
    ]);
    expect(server.received).toHaveLength(3);
    expect(talk.err).toMatch(/There is no command \/frobnicate/);
    expect(talk.err).toMatch(/\/reset {9}forget the conversation/);
  });

  it("tells of an error in the middle of an answer, forgets that turn and goes on", async () => {
    server = await scriptedServer(async (response, index, received) => {
      if (index === 1) return echo(response, index, received);
      say(response, "half an ans");
      if (index === 0)
        event(response, {
          error: { message: "the device failed", type: "server_error" },
        });
      if (index < 3) return void response.end();
      await sleep(50);
      response.destroy();
    });
    const talk = chat(["--url", server.url]);
    expect(await talk.end("one\ntwo\nthree\nfour\n")).toBe(1);
    expect(talk.out).toBe("half an ans\nanswer 1\nhalf an ans\nhalf an ans\n");
    expect(talk.err).toMatch(
      /The server broke off \(server_error\): the device failed/,
    );
    expect(talk.err).toMatch(/The stream broke off: /);
    expect(talk.err).toMatch(/The stream ended in the middle of the answer/);
    expect(messages(1)).toEqual([{ role: "user", content: "two" }]);
    expect(messages(2)).toEqual([
      { role: "user", content: "two" },
      { role: "assistant", content: "answer 1" },
      { role: "user", content: "three" },
    ]);
  });

  it("says what to do when the context is full, and what was cut off", async () => {
    server = await scriptedServer((response, index) => {
      if (index === 0) {
        response.statusCode = 400;
        const error = { message: "too long", code: "context_length_exceeded" };
        return void response.end(JSON.stringify({ error }));
      }
      say(response, "as far as it goes");
      stop(response, "length");
      finish(response, 5, 4);
    });
    const talk = chat(["--url", server.url, "--max-tokens", "4"]);
    expect(await talk.end("one\ntwo\n")).toBe(1);
    expect(talk.err).toMatch(
      /does not fit the model's context any more \(HTTP 400: too long\)\. \/reset begins a new one/,
    );
    expect(talk.err).toMatch(/Cut off at --max-tokens 4\./);
    expect(messages(1)).toEqual([{ role: "user", content: "two" }]);
  });

  it("stops an answer at the first signal, keeps what came, and ends at the second", async () => {
    server = await scriptedServer((response, index, received) => {
      if (index === 0) say(response, "a long stor");
      else void echo(response, index, received);
    });
    const talk = chat(["--url", server.url]);
    talk.write("one\n");
    await talk.see("a long stor");
    talk.process.kill("SIGINT");
    await talk.see("Stopped.");
    talk.write("two\n");
    await talk.see("answer 1");
    expect(messages(1)).toEqual([
      { role: "user", content: "one" },
      { role: "assistant", content: "a long stor" },
      { role: "user", content: "two" },
    ]);
    talk.process.kill("SIGINT");
    await talk.see("ends the chat");
    talk.process.kill("SIGINT");
    expect(await talk.ended).toBe(130);
  });

  it("refuses in one line what cannot be", async () => {
    server = await scriptedServer((response) => {
      response.statusCode = 401;
      const error = { message: "Incorrect API key", type: "auth" };
      response.end(JSON.stringify({ error }));
    });
    const cases: [string[], RegExp][] = [
      [["--url", "localhost:8000"], /--url: expected http:\/\/HOST:PORT/],
      [["--url", "http://127.0.0.1:2"], /Cannot reach http:\/\/127\.0\.0\.1:2/],
      [["DIR", "--url", server.url], /MODEL: "DIR" would be loaded here/],
      [["--url", server.url, "--threads", "2"], /--threads: says how to load/],
      [["--api-key", "x"], /--api-key: goes with --url/],
      [["--temperature", "3"], /Expected a number from 0 to 2, got "3"/],
    ];
    for (const [args, message] of cases) {
      const talk = chat(args);
      expect(await talk.end()).toBe(1);
      expect(talk.err).toMatch(message);
    }
    const talk = chat(["--url", server.url]);
    expect(await talk.end("one\n")).toBe(1);
    expect(talk.err).toMatch(
      /HTTP 401 \(auth\): Incorrect API key \(--api-key KEY\)/,
    );
  });
});

describe.skipIf(!hasShared)(
  "octavo chat MODEL (needs ../shared/models/stories260k)",
  () => {
    const model = [STORIES, "--chat-template", TEMPLATE];
    const lines = ["Once upon a time, there was a", "The dog"];

    it("answers as the server does, turn by turn, and says when the context is full", async () => {
      const talk = chat([...model, "--temperature", "0", "--max-tokens", "40"]);
      const long = `${"They played with the ball all day. ".repeat(80)}\n`;
      expect(await talk.end(`${lines.join("\n")}\n${long}`)).toBe(1);
      expect(talk.err).toMatch(/does not fit the model's context any more/);

      const server = await startServer(model);
      try {
        const history: { role: string; content: string }[] = [];
        let expected = "";
        for (const content of lines) {
          history.push({ role: "user", content });
          const response = await fetch(`${server.url}/v1/chat/completions`, {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify({
              messages: history,
              temperature: 0,
              max_tokens: 40,
            }),
          });
          const body = (await response.json()) as {
            choices: { message: { role: string; content: string } }[];
          };
          const message = body.choices[0]?.message;
          if (!message) throw new Error(JSON.stringify(body));
          history.push({ role: "assistant", content: message.content });
          expected += `${message.content}\n`;
        }
        expect(talk.out).toBe(expected);

        const remote = chat([
          ...["--url", server.url],
          ...["--temperature", "0", "--max-tokens", "40"],
        ]);
        expect(await remote.end(lines.join("\n"))).toBe(0);
        expect(remote.out).toBe(expected);
      } finally {
        await server.stop("SIGKILL");
      }
    });

    it("says that a model has no chat template", async () => {
      const talk = chat([STORIES]);
      expect(await talk.end("Hello\n")).toBe(1);
      expect(talk.err).toMatch(/has no chat template; give it one with/);
    });

    const hasScript = spawnSync("script", ["--version"]).status === 0;
    it.skipIf(!hasScript)(
      "in a terminal: prompt, dim figures, Ctrl-C and Ctrl-D (needs util-linux's script)",
      async () => {
        const command = [process.execPath, MAIN, "chat", ...model]
          .concat("--temperature", "0", "--device", "reference")
          .map((word) => `'${word}'`)
          .join(" ");
        const talk = new Chat(
          spawn("script", ["-qefc", command, "/dev/null"], {
            stdio: ["pipe", "pipe", "pipe"],
            env: { ...process.env, TERM: "xterm" },
          }),
        );
        await talk.see("> ");
        talk.write("Once upon a time\r");
        await talk.see("big box");
        talk.write("\x03");
        await talk.see("Stopped.");
        expect(talk.out).toMatch(/\x1b\[2m\(\d+ tokens, .* TTFT .* s\)/);
        talk.write("half a line");
        await talk.see("half a line");
        talk.write("\x03/exit\r");
        expect(await talk.ended).toBe(0);
      },
    );
  },
);
