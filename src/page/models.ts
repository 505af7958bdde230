/// <reference lib="dom" />
import { apiKey, request, ServerError } from "./api.js";
import { byId, html, setText } from "./dom.js";

interface Card {
  id: string;
  max_model_len?: number;
}

const select = byId("model", HTMLSelectElement);
const context = byId("context", HTMLElement);
let cards: Card[] = [];

/** Fills the list of models. Returns why it could not, or null. */
export async function loadModels(): Promise<ServerError | null> {
  try {
    const response = await request("v1/models", apiKey);
    ({ data: cards } = (await response.json()) as { data: Card[] });
  } catch (error) {
    return error instanceof ServerError
      ? error
      : new ServerError(`GET v1/models: ${String(error)}`, null, "");
  }
  const before = select.value;
  select.replaceChildren(
    ...cards.map(({ id }) => html("option", { value: id }, id)),
  );
  if (cards.some(({ id }) => id === before)) select.value = before;
  showContext();
  return null;
}

/** Undefined before the list is there: the server takes its first model then. */
export const chosenModel = (): string | undefined => select.value || undefined;

function showContext(): void {
  const length = cards.find(({ id }) => id === select.value)?.max_model_len;
  setText(
    context,
    length === undefined ? "" : `context ${length.toLocaleString("en-US")}`,
  );
}

select.addEventListener("change", showContext);
