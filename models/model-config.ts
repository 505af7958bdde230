/** A config.json, checked and in one spelling: everything that a model's program depends on. Made by src/loader. */
export interface ModelConfig {
  /** As config.json names it, e.g. "LlamaForCausalLM". */
  architecture: string;
  /** e.g. "llama". */
  modelType: string;
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numLayers: number;
  numHeads: number;
  /** Divides numHeads. */
  numKvHeads: number;
  headDim: number;
  rmsNormEps: number;
  /** Longest context: max_position_embeddings, stretched by linear or yarn scaling. */
  maxPositionEmbeddings: number;
  tieWordEmbeddings: boolean;
  attentionBias: boolean;
  mlpBias: boolean;
  rope: RopeTable;
  /** [numLayers] how many positions a query sees, itself included; 0: all. */
  slidingWindows: number[];
  /** The type that config.json declares; each tensor of a checkpoint has its own. */
  dtype: "f32" | "f16" | "bf16";
  bosTokenId: number | null;
  eosTokenIds: number[];
  /** config.json as it was read: for model files that know more fields than these. */
  raw: Readonly<Record<string, unknown>>;
}

/** Rotary embedding: angle(position, i) = position * inverseFrequencies[i]; cosines and sines are scaled by `scale`. */
export interface RopeTable {
  /** [rotaryDim / 2], rotaryDim <= headDim; the rest of a head is not rotated. */
  inverseFrequencies: Float64Array;
  scale: number;
  /** False: pairs (i, i + rotaryDim / 2), Hugging Face's order. True: pairs (2i, 2i + 1). */
  interleaved: boolean;
}
