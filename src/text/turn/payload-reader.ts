import type { TurnSink } from "./events.js";

/** What became of a unit: the payload goes on, ended with it, or was none. */
export type Progress = "more" | "done" | "rejected";

/** Where payloads tell of calls. */
export type CallSink = Pick<
  TurnSink,
  "callStart" | "callArguments" | "callEnd"
>;

/**
 * Reads the payload of one call, a UTF-16 unit at a time. Until the name is known it may turn out to be something else
 * ("rejected"); from then on it is a call, whatever follows, and its arguments are told as they come.
 */
export interface PayloadReader {
  push(unit: string): Progress;
  /** Inside of a string, where the format's markers are data. */
  readonly inString: boolean;
  /** The call has been told of. */
  readonly begun: boolean;
  /** The output, or the frame around the call, ended. A call that has begun is ended as it is. */
  cut(): void;
}

/** Names that calls may have; longer or other ones are not taken for calls. */
export const TOOL_NAME = /^[A-Za-z0-9_.:-]{1,128}$/;

/** Which names are calls: any that looks like one where a marker announced it, else only the tools of the request. */
export type NameCheck = (name: string) => boolean;
