import { describe, expect, it } from "vitest";
import type { ResponseResource } from "../../../src/server/responses/resource.js";
import {
  ResponseStore,
  type StoredResponse,
} from "../../../src/server/responses/store.js";

const bounds = { maxResponses: 3, maxSize: 1e6, ttlSeconds: 10 };

function stored(id: string, text = ""): StoredResponse {
  const content = [{ type: "output_text" as const, text }];
  const response = {
    id,
    status: "completed",
    output: [
      {
        type: "message",
        id: `msg_${id}`,
        status: "completed",
        role: "assistant",
        content,
      },
    ],
  } as unknown as ResponseResource;
  return {
    response,
    key: "none",
    input: [],
    history: [],
    historySize: 0,
    cancel: () => undefined,
    forget: () => undefined,
  };
}

const kept = (store: ResponseStore, ids: string): string =>
  [...ids].filter((id) => store.find(id, "none") !== undefined).join("");

describe("ResponseStore", () => {
  it("forgets the least recently used one first", () => {
    const store = new ResponseStore(bounds, () => 0);
    for (const id of "abc") store.put(stored(id));
    store.find("a", "none");
    store.put(stored("d"));
    expect(kept(store, "abcd")).toBe("acd");
    expect(store.findItem("msg_b", "none")).toBeUndefined();
    expect(store.findItem("msg_a", "none")?.id).toBe("msg_a");
    expect(store.findItem("msg_a", "other")).toBeUndefined();
  });

  it("is bounded in characters, of a whole conversation each", () => {
    const store = new ResponseStore({ ...bounds, maxSize: 1000 }, () => 0);
    store.put(stored("a", "x".repeat(300)));
    store.put(stored("b", "x".repeat(300)));
    expect(kept(store, "ab")).toBe("ab");
    store.put({ ...stored("c"), historySize: 500 });
    expect(kept(store, "abc")).toBe("c");
    // The newest stays, whatever its size.
    store.put(stored("d", "x".repeat(2000)));
    expect(kept(store, "cd")).toBe("d");
    expect(store.numResponses).toBe(1);
  });

  it("counts what a response has grown to, unless it was removed", () => {
    const store = new ResponseStore({ ...bounds, maxSize: 1000 }, () => 0);
    const [a, b] = [stored("a"), stored("b")];
    store.put(a);
    store.put(b);
    const grow = ({ response }: StoredResponse): void => {
      const [item] = response.output;
      if (item?.type === "message")
        item.content.push({ type: "output_text", text: "x".repeat(900) });
    };
    grow(b);
    store.refresh(b);
    expect(kept(store, "ab")).toBe("b");
    store.remove("b");
    store.refresh(b);
    expect(store.numResponses).toBe(0);
  });

  it("forgets what has not been used for long", () => {
    let time = 0;
    const store = new ResponseStore(bounds, () => time);
    store.put(stored("a"));
    store.put(stored("b"));
    time = 9_000;
    store.find("a", "none");
    time = 15_000;
    expect(kept(store, "ab")).toBe("a");
    time = 30_000;
    expect(store.find("a", "none")).toBeUndefined();
    expect(store.numResponses).toBe(0);
  });
});
