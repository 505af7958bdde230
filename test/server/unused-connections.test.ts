import { connect } from "node:net";
import type { AddressInfo } from "node:net";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { says, ScriptedEngine, serve } from "./support.js";

describe("a connection that never carried a request", () => {
  it("does not keep the server from closing", async () => {
    const { app } = await serve(new ScriptedEngine(says("Hi.")));
    await app.listen({ port: 0, host: "127.0.0.1" });
    const { port } = app.server.address() as AddressInfo;
    const socket = connect(port, "127.0.0.1");
    const closed = once(socket, "close");
    await once(socket, "connect");
    await expect
      .poll(
        () =>
          new Promise((resolve) =>
            app.server.getConnections((_, n) => resolve(n)),
          ),
      )
      .toBe(1);
    // Without its being closed this would take the minute that Node waits for a request's headers.
    await app.close();
    await closed;
  });
});
