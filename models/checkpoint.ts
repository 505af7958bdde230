/** What lowering knows of a checkpoint: read by src/loader, used by src/program. */

/** One tensor of a safetensors file; its bytes are never read here. */
export interface CheckpointTensor {
  name: string;
  /** Index into Checkpoint.files. */
  file: number;
  /** Bytes from the start of the file. */
  offset: number;
  /** Spelling of safetensors: "F32", "F16", "BF16", "I32", ... */
  dtype: string;
  shape: number[];
}

export interface Checkpoint {
  /** Absolute paths. */
  files: string[];
  /** Sum of their sizes. */
  fileBytes: number;
  tensors: ReadonlyMap<string, CheckpointTensor>;
}

/** How the weights of one linear are stored (layouts: LinearPart in kernels/ops.h). */
export interface LinearQuantization {
  scheme: "awq-int4" | "gptq-int4" | "compressed-int4";
  /** Inputs that share a scale; 0: one scale per output for all of them. */
  groupSize: number;
  /** What a stored zero point lacks: 1 for GPTQ's first format, else 0. */
  zeroOffset: number;
  /** No zero points: z = 8. */
  symmetric: boolean;
}

/** The quantization_config of a model. */
export interface Quantization {
  /** "none", "awq", "gptq", "compressed-tensors". */
  method: string;
  /** The scheme of the linear called `module` (e.g. "model.layers.0.mlp.up_proj"), or null where it is dense. */
  schemeOf: (module: string) => LinearQuantization | null;
}
