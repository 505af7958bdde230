import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import { shapeOf } from "./errors.js";

const MESSAGES: Readonly<Record<string, [status: number, message: string]>> = {
  ERR_HTTP_REQUEST_TIMEOUT: [408, "The request did not come to its end."],
  HPE_HEADER_OVERFLOW: [431, "The request's headers are too large."],
};

/** Answers what is no HTTP, which reaches no route, in the shape of every other error. */
export function answerBrokenRequest(
  error: Error & { code?: string },
  socket: Socket,
): void {
  if (error.code === "ECONNRESET" || socket.destroyed) return;
  if (!socket.writable) {
    socket.destroy(error);
    return;
  }
  const [status, message] = MESSAGES[error.code ?? ""] ?? [
    400,
    `The request is not valid HTTP: ${error.message}`,
  ];
  const body = JSON.stringify(shapeOf(message));
  const text =
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nContent-Type: application/json; charset=utf-8\r\n` +
    `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`;
  // Whatever is under way for a peer that speaks no HTTP any more ends with its connection.
  socket.end(text, () => socket.destroy());
}
