import path from "node:path";
import { ENGINE_DEFAULTS } from "../../core/config.js";
import { prepareDraft } from "../../engine/draft-model.js";
import { prepareModel } from "../../engine/prepare-model.js";
import { withDraftDirectory } from "../../loader/locate-model.js";
import { findModel } from "../find-model.js";
import { engineConfig, SERVE_FLAGS } from "../serve-flags.js";
import { buildFacts } from "./build.js";
import { autoDevice, deviceFacts } from "./devices.js";
import type { DeviceFacts } from "./devices.js";
import { SystemFiles } from "./files.js";
import { fitOn } from "./fit.js";
import type { Fit } from "./fit.js";
import { gpuFacts } from "./gpus.js";
import { hostFacts } from "./host.js";
import type { Diagnosis } from "./report.js";
import { isPortFree, warningsOf } from "./warnings.js";

const DEFAULT_PORT = SERVE_FLAGS.find(({ name }) => name === "port")
  ?.default as number;

/** Looks at the machine, and with `model` at what of it would fit. Throws OctavoError for a model that cannot be read. */
export async function diagnose(
  model: string | undefined,
  options: Record<string, unknown>,
): Promise<Diagnosis> {
  const files = new SystemFiles();
  const host = hostFacts(files);
  const gpu = await gpuFacts(files);
  const build = buildFacts();
  const devices = deviceFacts(build, gpu);
  const usable = devices.some(({ info }) => info !== null);
  const fits = model === undefined ? null : await fit(model, options, devices);
  return {
    ok: fits ? fits.some(({ info }) => info !== null) : usable,
    host,
    gpu,
    build,
    devices,
    auto: usable ? autoDevice() : null,
    model:
      model === undefined || !fits
        ? null
        : { directory: path.resolve(model), fits },
    warnings: warningsOf(
      host,
      devices,
      Number(options["threads"] ?? ENGINE_DEFAULTS.threads),
      await isPortFree(DEFAULT_PORT),
      DEFAULT_PORT,
    ),
  };
}

async function fit(
  model: string,
  options: Record<string, unknown>,
  devices: DeviceFacts[],
): Promise<Fit[]> {
  const config = await withDraftDirectory(
    engineConfig(model, options),
    findModel,
  );
  const prepared = await prepareModel(config);
  return fitOn(devices, config, prepared, await prepareDraft(config));
}
