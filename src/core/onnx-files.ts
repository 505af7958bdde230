import { OctavoError } from "./errors.js";

/** Where the hub's ONNX layout has its graphs; "": beside the configuration. */
export const ONNX_FOLDERS = ["onnx/", ""] as const;

/**
 * Where an encoder's graph may be in its directory, the first that is there.
 * @param name the one that the user chose, with its folder or without; undefined: model.onnx
 * @param option what the user calls it
 * Errors: `invalid_config` for what is no name of such a file.
 */
export function onnxFiles(
  name = "model.onnx",
  option = "embedding-model-file",
): readonly string[] {
  const parts = name.split(/[/\\]/);
  if (
    !name.endsWith(".onnx") ||
    parts.some((part) => part === "" || part === "..") ||
    parts.length > 2
  )
    throw new OctavoError(
      "invalid_config",
      `${option}: expected the name of an ONNX file of the model, such as model_fp16.onnx or onnx/model_fp16.onnx, got "${name}"`,
      option,
    );
  return parts.length > 1
    ? [name]
    : ONNX_FOLDERS.map((folder) => `${folder}${name}`);
}

/** What an error says that there is: all of a model's graphs, as far as a line may be long. */
export function listOnnx(files: readonly string[]): string {
  const graphs = files.filter((file) => file.endsWith(".onnx")).sort();
  if (graphs.length === 0) return "no ONNX file";
  const more = graphs.length > 20 ? ` and ${graphs.length - 20} more` : "";
  return `${graphs.slice(0, 20).join(", ")}${more}`;
}
