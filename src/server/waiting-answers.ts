import type { ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { FastifyInstance } from "fastify";

/**
 * Ends with their connection the answers that wait behind another one on it (HTTP pipelining). Such an answer has no
 * socket yet, and Node does not tell it of the connection's end: its request would be computed for nobody, and whatever
 * is given back at "close" would be kept forever.
 */
export function closeWaitingAnswers({ server }: FastifyInstance): void {
  const waiting = new WeakMap<Socket, Set<ServerResponse>>();
  const answersOf = (socket: Socket): Set<ServerResponse> => {
    let answers = waiting.get(socket);
    if (answers === undefined) {
      answers = new Set();
      waiting.set(socket, answers);
      socket.once("close", () => closeAll(answers ?? []));
    }
    return answers;
  };
  server.on("request", ({ socket }, answer) => {
    if (answer.socket !== null) return;
    const answers = answersOf(socket);
    answers.add(answer);
    answer.once("close", () => answers.delete(answer));
  });
}

function closeAll(answers: Iterable<ServerResponse>): void {
  for (const answer of [...answers]) {
    // One that had its turn is told by Node.
    if (answer.socket !== null) continue;
    answer.destroy();
    answer.emit("close");
  }
}
