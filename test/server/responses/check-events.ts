import { expect } from "vitest";
import type { Json } from "../support.js";

/**
 * Puts a response together from its events alone, checking that they are numbered, in their place, and say the same as the
 * response that the last one brings; which is returned.
 */
export function checkEvents(events: readonly Json[]): Json {
  expect(events.map((event) => event.sequence_number)).toEqual(
    events.map((_, i) => i),
  );
  const [created, progress] = events;
  expect(created.type).toBe("response.created");
  expect(created.response).toMatchObject({ status: "in_progress", output: [] });
  expect(progress).toEqual({ ...created, ...progressOf });
  const output: Json[] = [];
  const done: boolean[] = [];
  const last = events.at(-1);
  for (const event of events.slice(2, -1)) {
    const { type, output_index: index, item } = event;
    if (type === "response.output_item.added") {
      expect(done.every(Boolean)).toBe(true);
      expect(index).toBe(output.length);
      expect(item.status).toBe("in_progress");
      output.push(structuredClone(item));
      done.push(false);
      continue;
    }
    expect(index).toBe(output.length - 1);
    expect(done[index]).toBe(false);
    const current = output[index];
    if (type === "response.output_item.done") {
      expect(item).toEqual({ ...current, status: item.status });
      expect(item.status).not.toBe("in_progress");
      output[index] = item;
      done[index] = true;
      continue;
    }
    expect(event.item_id).toBe(current.id);
    apply(event, current);
  }
  expect(done.every(Boolean)).toBe(true);
  expect(last.type).toMatch(/^response\.(completed|incomplete|failed)$/);
  expect(last.response.output).toEqual(output);
  expect(last.response).toMatchObject({ id: created.response.id });
  return last.response;
}

const progressOf = { type: "response.in_progress", sequence_number: 1 };

function apply(event: Json, item: Json): void {
  switch (event.type) {
    case "response.content_part.added":
      expect(event.content_index).toBe(item.content.length);
      item.content.push(structuredClone(event.part));
      break;
    case "response.output_text.delta":
    case "response.reasoning_text.delta": {
      const part = item.content[event.content_index];
      part.text += event.delta;
      part.logprobs?.push(...event.logprobs);
      break;
    }
    case "response.output_text.done":
    case "response.reasoning_text.done":
      expect(event.text).toBe(item.content[event.content_index].text);
      break;
    case "response.content_part.done":
      expect(event.part).toEqual(item.content[event.content_index]);
      break;
    case "response.function_call_arguments.delta":
      item.arguments += event.delta;
      break;
    case "response.function_call_arguments.done":
      expect(event.arguments).toBe(item.arguments);
      expect(event.name).toBe(item.name);
      break;
    default:
      throw new Error(`an event of type ${event.type}`);
  }
}
