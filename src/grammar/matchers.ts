import { bump, Command, Header, RING_SIZE } from "./channel.js";
import type { Channel } from "./channel.js";
import type { Vocabulary } from "./vocabulary.js";
import type { CompiledGrammar, GrammarMatcher, XGrammar } from "./xgrammar.js";

interface Held {
  compiled: CompiledGrammar;
  /** Special tokens never follow. */
  ordinaryOnly: boolean;
}

interface Follower {
  matcher: GrammarMatcher;
  ordinaryOnly: boolean;
  /** Of the UTF-8 so far: utf8-state.ts. */
  utf8: number;
  /** It was sent a token that the grammar refuses: nothing follows any more. */
  dead: boolean;
}

/** The worker's grammars and matchers, and the engine's commands about them. */
export class Matchers {
  private readonly grammars = new Map<number, Held>();
  private readonly followers = new Map<number, Follower>();
  private at = 0;

  constructor(
    private readonly xgrammar: XGrammar,
    private readonly vocabulary: Vocabulary,
    private readonly channel: Channel,
  ) {}

  add(grammar: number, compiled: CompiledGrammar, ordinaryOnly: boolean): void {
    this.grammars.set(grammar, { compiled, ordinaryOnly });
  }

  /** No request holds the grammar any more. */
  forget(grammar: number): void {
    this.grammars.get(grammar)?.compiled.dispose();
    this.grammars.delete(grammar);
  }

  /** Commands written before this worker was there are about matchers that it doesn't have: the engine sends them again. */
  start(): void {
    const { header } = this.channel;
    this.at = Atomics.load(header, Header.written);
    Atomics.store(header, Header.read, this.at);
    Atomics.add(header, Header.generation, 1);
    bump(header, Header.done);
  }

  /** Works through the commands that are there. What XGrammar throws means that it can't go on. */
  async work(): Promise<void> {
    const { header } = this.channel;
    while (this.at !== Atomics.load(header, Header.written)) {
      await this.run(this.next());
      Atomics.store(header, Header.read, this.at);
    }
    // Room in the ring.
    bump(header, Header.done);
  }

  private next(): number {
    const int = this.channel.ring[this.at & (RING_SIZE - 1)] as number;
    this.at = (this.at + 1) | 0;
    return int;
  }

  private async run(command: number): Promise<void> {
    const id = this.next();
    const follower = this.followers.get(id);
    switch (command) {
      case Command.open:
        await this.open(id, this.next());
        break;
      case Command.accept:
        for (let count = this.next(); count > 0; count--)
          this.accept(follower, this.next());
        break;
      case Command.fill:
        await this.fill(follower);
        break;
      case Command.close:
        follower?.matcher.dispose();
        this.followers.delete(id);
        break;
    }
  }

  private async open(id: number, grammar: number): Promise<void> {
    const held = this.grammars.get(grammar);
    if (!held) return;
    const { GrammarMatcher } = this.xgrammar;
    const { compiled, ordinaryOnly } = held;
    const matcher = await GrammarMatcher.createGrammarMatcher(compiled);
    this.followers.get(id)?.matcher.dispose();
    this.followers.set(id, { matcher, ordinaryOnly, utf8: 0, dead: false });
  }

  /** False: the token can't follow. */
  private accept(follower: Follower | undefined, token: number): boolean {
    if (!follower || follower.dead) return false;
    follower.dead =
      follower.matcher.isTerminated() || !follower.matcher.acceptToken(token);
    follower.utf8 = this.vocabulary.stateAfter(follower.utf8, token);
    return !follower.dead;
  }

  /** The mask of what may follow now, and behind each draft; then everything is as it was before the drafts. */
  private async fill(follower: Follower | undefined): Promise<void> {
    const { header, tickets } = this.channel;
    const row = this.next();
    const ticket = this.next();
    const drafts = Array.from({ length: this.next() }, () => this.next());
    const before = follower && { utf8: follower.utf8, dead: follower.dead };
    let open = await this.fillRow(follower, row);
    Atomics.store(tickets, row, open ? ticket : -ticket);
    let numAccepted = 0;
    for (const [i, draft] of drafts.entries()) {
      if (open && this.accept(follower, draft)) {
        numAccepted++;
        open = await this.fillRow(follower, row + 1 + i);
      } else {
        open = false;
      }
      Atomics.store(tickets, row + 1 + i, open ? ticket : -ticket);
    }
    if (numAccepted > 0) follower?.matcher.rollBack(numAccepted);
    if (follower) Object.assign(follower, before);
    bump(header, Header.done);
  }

  /** False: nothing can follow. */
  private async fillRow(
    follower: Follower | undefined,
    row: number,
  ): Promise<boolean> {
    if (!follower || follower.dead || follower.matcher.isTerminated())
      return false;
    const mask = await follower.matcher.getNextTokenBitmask();
    this.vocabulary.restrict(mask, follower.utf8, follower.ordinaryOnly);
    if (!mask.some((word) => word !== 0)) return false;
    const { masks } = this.channel;
    masks.set(mask, row * this.vocabulary.words);
    return true;
  }
}
