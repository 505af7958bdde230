import type { EngineConfig } from "../core/config.js";
import type { Program } from "../program/program.js";
import type {
  Addon,
  DeviceInfo,
  LinearShape,
  RunnerSizes,
  TileChoice,
} from "../runner/addon.js";
import type { TuneHooks } from "./devices.js";
import { cacheDirectory, TileCache } from "./tile-cache.js";
import { openRanges, tileChoices, tuneTiles } from "./tune-tiles.js";
import type { TileTable, TuneResult } from "./tune-tiles.js";

/** Of measuring at one start; what is left is measured at the next. */
const TUNING_SECONDS = 3;

type TunerAddon = Pick<
  Addon,
  "version" | "linearShapes" | "tileSet" | "matmulLibrary" | "LinearTuner"
>;

/**
 * How a device computes the linears of a program: by which tiles, measured once for a device and kept on disk, and
 * whether by a matmul library. Tiles change no bit of a result; the library's does.
 */
export class LinearKernels {
  /** --no-batch-invariant, and the library is there. */
  readonly useMatmulLibrary: boolean;
  /** Version of the library, or why there is none; null: not asked for. */
  private readonly library: string | null;
  private readonly problems: string[] = [];
  /** What was chosen when tiles were first needed. */
  private chosen: TileChoice[] | null = null;

  constructor(
    private readonly addon: TunerAddon,
    private readonly device: DeviceInfo,
    private readonly program: Program,
    private readonly config: Pick<
      EngineConfig,
      "batchInvariant" | "tileTuning"
    >,
    private readonly environment: NodeJS.ProcessEnv = process.env,
  ) {
    const { device: name, hostMemory } = device;
    const asked = !config.batchInvariant && !hostMemory;
    const found = asked ? addon.matmulLibrary(name) : null;
    this.useMatmulLibrary = found?.found ?? false;
    this.library = found?.found ? found.text : null;
    if (!config.batchInvariant && hostMemory)
      this.problems.push(noLibraryOn(name));
    if (found && !found.found)
      this.problems.push(
        `--no-batch-invariant: cuBLASLt is not used: ${found.text}. Octavo's own tiles compute everything.`,
      );
  }

  /** One line for people; null: the device has one way of computing linears. */
  describe(sizes: RunnerSizes): string | null {
    const { names } = this.addon.tileSet(this.device.device);
    if (names.length === 0) return null;
    const tiles = this.describeTiles(sizes);
    return this.library === null
      ? tiles
      : `${tiles}; ${this.library} for many rows`;
  }

  /**
   * The tiles to load with, from the cache and by measuring what it lacks: the device must have nothing loaded. What it
   * decided once it keeps.
   */
  choose(
    sizes: RunnerSizes,
    { progress, notice = () => undefined }: TuneHooks = {},
  ): TileChoice[] {
    if (this.chosen) return this.chosen;
    this.problems.forEach(notice);
    if (!this.tunes) return (this.chosen = []);
    const shapes = this.addon.linearShapes(this.program, sizes);
    const cache = this.openCache();
    const { table, problem } = cache.read();
    if (problem !== null) notice(problem);
    if (openRanges(shapes, table).length > 0) {
      const result = this.tune(shapes, sizes, table, progress, notice);
      if (result) notice(describeResult(shapes, result));
      const unwritten = result && result.measured > 0 && cache.write(table);
      if (unwritten) notice(unwritten);
    }
    return (this.chosen = tileChoices(shapes, table));
  }

  private get tunes(): boolean {
    return this.config.tileTuning && this.device.tunes;
  }

  private describeTiles(sizes: RunnerSizes): string {
    if (!this.config.tileTuning) return "tiles by rule (--no-tile-tuning)";
    if (!this.device.tunes) return "tiles by rule (a simulator tells no time)";
    const shapes = this.addon.linearShapes(this.program, sizes);
    const cache = this.openCache();
    const open = openRanges(shapes, cache.read().table);
    const left = new Set(open.map(({ shape }) => shape.name)).size;
    const known = shapes.length - left;
    if (left === 0) return `tiles of ${known} shapes from ${cache.file}`;
    const from =
      known > 0 ? `tiles of ${known} shapes from ${cache.file}, ` : "";
    return `${from}tiles of ${left} shapes to be measured at the start`;
  }

  private openCache(): TileCache {
    const { description, isa, driver, device } = this.device;
    return new TileCache(cacheDirectory(this.environment), {
      octavo: this.addon.version,
      gpu: description,
      isa,
      driver,
      library: this.library,
      tiles: this.addon.tileSet(device),
    });
  }

  /** Null: it could not be measured, which `notice` is told; loading will say what is wrong with the device. */
  private tune(
    shapes: LinearShape[],
    sizes: RunnerSizes,
    table: TileTable,
    progress: TuneHooks["progress"],
    notice: (text: string) => void,
  ): TuneResult | null {
    try {
      const tuner = new this.addon.LinearTuner(
        this.device.device,
        this.program,
        sizes,
        this.useMatmulLibrary,
      );
      try {
        return tuneTiles(tuner, shapes, table, {
          budgetSeconds: TUNING_SECONDS,
          clock: () => performance.now() / 1000,
          onProgress: progress,
        });
      } finally {
        tuner.close();
      }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      notice(`Tiles were not measured: ${reason}. They are chosen by rule.`);
      return null;
    }
  }
}

/** --no-batch-invariant where it changes nothing. */
export function noLibraryOn(device: string): string {
  return `--no-batch-invariant has no effect on ${device}: it has no matmul library, and its results never depend on the batch.`;
}

function describeResult(
  shapes: readonly LinearShape[],
  { measured, left, seconds }: TuneResult,
): string {
  const rest =
    left > 0 ? `; ${left} ranges of rows are left for the next start` : "";
  return `Measured the tiles of ${shapes.length} shapes (${measured} ranges of rows) in ${seconds.toFixed(1)} s${rest}.`;
}
