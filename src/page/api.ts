/// <reference lib="dom" />

/** What the server says instead of an answer. */
export class ServerError extends Error {
  override readonly name = "ServerError";
  constructor(
    message: string,
    /** HTTP status; null: the server was not reached, or failed in the middle of a stream. */
    readonly status: number | null,
    /** Where it is to be looked for: "400, invalid_value, temperature"; may be empty. */
    readonly details: string,
  ) {
    super(message);
  }
}

/** A key that is kept for this tab, until it is closed. */
export class StoredKey {
  constructor(private readonly name: string) {}

  get value(): string {
    try {
      return sessionStorage.getItem(this.name) ?? "";
    } catch {
      // Storage is switched off.
      return this.inMemory;
    }
  }

  set value(key: string) {
    this.inMemory = key;
    try {
      sessionStorage.setItem(this.name, key);
    } catch {
      // As above.
    }
  }

  private inMemory = "";
}

export const apiKey = new StoredKey("octavo-api-key");
export const metricsKey = new StoredKey("octavo-metrics-key");

/** Relative to the page, so that a proxy's prefix stays in place. Throws ServerError unless the status is 2xx. */
export async function request(
  path: string,
  key: StoredKey,
  init: RequestInit = {},
): Promise<Response> {
  const headers = new Headers(init.headers);
  // What a browser can put into a header; it is refused here as the server would refuse it.
  if (/[^\x20-\x7e]/.test(key.value))
    throw new ServerError("The key has letters that no key can have.", 401, "");
  if (key.value !== "") headers.set("authorization", `Bearer ${key.value}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers });
  } catch (error) {
    if (init.signal?.aborted === true) throw error;
    throw new ServerError("The server cannot be reached.", null, "");
  }
  if (response.ok) return response;
  const body = await response.text().catch(() => "");
  throw errorOf(body, response.status);
}

/** What an error's body says, in OpenAI's shape; the beginning of the body where it is no such. */
export function errorOf(body: string, status: number | null): ServerError {
  const error = errorField(body);
  const { message, code, type, param } = error ?? {};
  const kind = typeof code === "string" ? code : type;
  const details = [String(status ?? ""), kind, param].filter(
    (part) => typeof part === "string" && part !== "",
  );
  return new ServerError(
    typeof message === "string"
      ? message
      : `The server answered: ${body.slice(0, 300) || "nothing"}`,
    status,
    details.join(", "),
  );
}

function errorField(body: string): Record<string, unknown> | null {
  try {
    const { error } = JSON.parse(body) as { error?: unknown };
    return typeof error === "object"
      ? (error as Record<string, unknown> | null)
      : null;
  } catch {
    return null;
  }
}
