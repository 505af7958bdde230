import type { Item, ResponseResource } from "./resource.js";

/** A response and what it answers. */
export interface StoredResponse {
  readonly response: ResponseResource;
  /** The name of the API key that made it. */
  readonly key: string;
  /** What its own request brought. */
  readonly input: readonly Item[];
  /** The conversation before that, oldest first. */
  readonly history: readonly Item[];
  /** Characters of the history, about. */
  readonly historySize: number;
  /** Ends it, while it is under way. */
  readonly cancel: () => void;
  /** Removes it wherever it is kept: here, and on the connection that made it. */
  readonly forget: () => void;
}

export interface StoreBounds {
  readonly maxResponses: number;
  /** Characters of JSON, about: those of each response's whole conversation count. */
  readonly maxSize: number;
  /** Since the last use; null: no limit. */
  readonly ttlSeconds: number | null;
}

/** What the server remembers. */
export const SERVER_BOUNDS: StoreBounds = {
  maxResponses: 10_000,
  maxSize: 256 * 2 ** 20,
  ttlSeconds: 24 * 3600,
};

/** What a WebSocket remembers beside that, until it closes: responses with store false too. */
export const SOCKET_BOUNDS: StoreBounds = {
  maxResponses: 64,
  maxSize: 32 * 2 ** 20,
  ttlSeconds: null,
};

interface Entry {
  readonly stored: StoredResponse;
  size: number;
  /** Milliseconds. */
  usedAt: number;
}

/** Responses by id, in memory: the least recently used ones go first when a bound is reached. The newest always stays. */
export class ResponseStore {
  /** In the order of use. */
  private readonly entries = new Map<string, Entry>();
  private readonly items = new Map<string, Item>();
  private size = 0;

  constructor(
    private readonly bounds: StoreBounds,
    private readonly clock: () => number = () => performance.now(),
  ) {}

  get numResponses(): number {
    return this.entries.size;
  }

  /** Keeps a response, or takes into account that it has grown. */
  put(stored: StoredResponse): void {
    const { id } = stored.response;
    this.remove(id);
    const size = sizeOf(stored);
    this.entries.set(id, { stored, size, usedAt: this.clock() });
    this.size += size;
    for (const item of itemsOf(stored))
      this.items.set(itemName(item.id, stored.key), item);
    this.evict(id);
  }

  /** As `put`, where it has not been deleted or evicted meanwhile. */
  refresh(stored: StoredResponse): void {
    if (this.entries.get(stored.response.id)?.stored === stored)
      this.put(stored);
  }

  /** Keys see only their own. */
  find(id: string, key: string): StoredResponse | undefined {
    this.expire();
    const entry = this.entries.get(id);
    if (entry === undefined || entry.stored.key !== key) return undefined;
    entry.usedAt = this.clock();
    this.entries.delete(id);
    this.entries.set(id, entry);
    return entry.stored;
  }

  /** An item that a request has brought or a response has said. */
  findItem(id: string, key: string): Item | undefined {
    this.expire();
    return this.items.get(itemName(id, key));
  }

  remove(id: string): boolean {
    const entry = this.entries.get(id);
    if (entry === undefined) return false;
    this.size -= entry.size;
    for (const item of itemsOf(entry.stored)) {
      const name = itemName(item.id, entry.stored.key);
      if (this.items.get(name) === item) this.items.delete(name);
    }
    return this.entries.delete(id);
  }

  private evict(newest: string): void {
    this.expire();
    const { maxResponses, maxSize } = this.bounds;
    for (const id of this.entries.keys()) {
      if (this.entries.size <= maxResponses && this.size <= maxSize) return;
      if (id !== newest) this.remove(id);
    }
  }

  private expire(): void {
    const { ttlSeconds } = this.bounds;
    if (ttlSeconds === null) return;
    const oldest = this.clock() - ttlSeconds * 1000;
    for (const [id, { usedAt }] of this.entries) {
      if (usedAt > oldest) return;
      this.remove(id);
    }
  }
}

function itemsOf({ input, response }: StoredResponse): readonly Item[] {
  return [...input, ...response.output];
}

/** A key's name holds no line feed, so no id can pass for another key's. */
function itemName(id: string, key: string): string {
  return `${key}\n${id}`;
}

function sizeOf({ historySize, input, response }: StoredResponse): number {
  return (
    historySize + JSON.stringify(input).length + JSON.stringify(response).length
  );
}

/** The conversation up to a response's end, and its size. */
export function conversationOf(stored: StoredResponse): {
  history: Item[];
  historySize: number;
} {
  const { history, input, response } = stored;
  return {
    history: [...history, ...input, ...response.output],
    historySize: sizeOf(stored),
  };
}
