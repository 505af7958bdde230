/** Reads server-sent events from the bytes of a response, however they are cut. */
export class EventReader {
  private readonly decoder = new TextDecoder();
  private rest = "";
  private data: string[] = [];

  constructor(private readonly onEvent: (data: string) => void) {}

  push(bytes: Uint8Array): void {
    this.rest += this.decoder.decode(bytes, { stream: true });
    let start = 0;
    for (;;) {
      const end = this.rest.indexOf("\n", start);
      if (end < 0) break;
      const stop = this.rest[end - 1] === "\r" && end > start ? end - 1 : end;
      this.line(this.rest.slice(start, stop));
      start = end + 1;
    }
    this.rest = this.rest.slice(start);
  }

  private line(line: string): void {
    if (line === "") {
      if (this.data.length > 0) this.onEvent(this.data.join("\n"));
      this.data = [];
    } else if (line.startsWith("data:"))
      this.data.push(line.slice(line[5] === " " ? 6 : 5));
  }
}
