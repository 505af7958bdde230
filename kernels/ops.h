// The table of ops: everything a backend computes, filled once by each (reference, cpu, cuda).
//
// Plain data and function pointers only, so that a backend can be a shared library opened at run time.
// Nothing here knows about JavaScript, files or models. Every pointer says its shape; all matrices are
// row-major.
//
// Rules that hold for every backend:
//  - An op returns 0, or non-zero after Context::fail(); it never throws, aborts or prints.
//  - Ops on one context are called from one thread at a time and run in order. They may be asynchronous:
//    results are visible to the host after sync() or waitStep().
//  - A row's result depends on nothing but that row's inputs and the weights: the order of every reduction
//    is fixed by the weight's shape (linear: N and K) and by absolute position (attention), never by how
//    many rows or sequences are in the call. This makes a request's tokens independent of its batch.
//  - The caller (native/) has validated every id, slot, row and length.
#pragma once
#include <cstddef>
#include <cstdint>

namespace octavo {

constexpr uint32_t kOpsAbiVersion = 5;
constexpr int kBlockSize = 16;    // tokens per KV block (page)
constexpr int kMaxLogprobs = 20;  // columns of SampleArgs::topIds and topLogprobs

enum class DType : int32_t { F32 = 0, F16 = 1, BF16 = 2, I32 = 3, I8 = 4 };  // I8: KV pages only

inline size_t dtypeSize(DType t) {
  return t == DType::F32 || t == DType::I32 ? 4 : t == DType::I8 ? 1 : 2;
}

// Bytes of one head's keys (or values) in a block: [kBlockSize * pageHeadDim] of `t`. I8: then [kBlockSize]
// f32 scales, one for each token: a number is its byte times its token's scale.
inline size_t kvHeadBytes(DType t, int32_t pageHeadDim) {
  const size_t values = static_cast<size_t>(kBlockSize) * static_cast<size_t>(pageHeadDim) * dtypeSize(t);
  return values + (t == DType::I8 ? kBlockSize * sizeof(float) : 0);
}

struct Context;  // a backend's own state: device, stream, thread pool, scratch
struct Linear;   // a backend's own form of one linear layer's weights
struct Dense;    // a backend's own form of a dense vector or matrix (norm weights, biases, embedding)

// The shape of one linear layer, before any padding.
struct LinearShape {
  int64_t n, k;
  int32_t siluMulPairs;
  int32_t groupSize;  // of INT4 weights; 0: dense
  int32_t maxRows;    // most rows of one call
};

// The tile (Ops::tileName) of one shape's calls of up to `mostRows` rows.
struct TileChoice {
  int32_t linear;  // index of OpenOptions::linears
  int32_t mostRows;
  int32_t tile;
};

// What attention layers may differ in.
struct AttentionShape {
  int32_t numHeads, numKvHeads, headDim;
  int32_t slidingWindow;
};

struct OpenOptions {
  int32_t threads;     // CPU threads; 0 = one per physical core
  int32_t maxRows;     // most token rows of one step: scratch is taken at open, never in a step
  int32_t maxSeqs;     // most sequences of one step
  int32_t maxSamples;  // most sampled rows of one call to sample
  int32_t maxContext;  // longest sequence (max_model_len)
  int32_t vocabSize;
  // The model's shapes, each once; valid during the call.
  const LinearShape* linears;
  int32_t numLinears;
  const AttentionShape* attentions;
  int32_t numAttentions;
  // 1: reference and cpu round the inputs of INT4 linears to 8 bits (int8_activations.h).
  int32_t int8Activations;
  // For each linear by ascending rows; the backend's own choice where there is none. Valid during the call.
  const TileChoice* tiles;
  int32_t numTiles;
  // 1: a matmul library (Ops::matmulLibrary) may compute calls of many rows. Its order of reduction depends
  // on their number.
  int32_t useMatmulLibrary;
};

// A tensor in host memory (usually a mapped file: may be unaligned for its type, valid until the context
// closes).
struct HostTensor {
  const void* data;  // null: absent
  DType dtype;
  int64_t rows;  // vectors: 1
  int64_t cols;
};

enum class LinearScheme : int32_t { Dense = 0, AwqInt4 = 1, GptqInt4 = 2, CompressedInt4 = 3 };

// One part of a linear layer; q, k, v (or gate, up) are parts that are concatenated along the outputs N.
// Layouts (K inputs, N outputs of this part, g = groupSize; nibble 0 is the lowest):
//   Dense           weight [N, K] f32 | f16 | bf16
//   AwqInt4         weight = qweight I32 [K, N/8], zeros = qzeros I32 [K/g, N/8], scales F16 [K/g, N];
//                   nibble i of a word is column 8c + ORDER[i], ORDER = 0 2 4 6 1 3 5 7;  w = (q - z) * s
//   GptqInt4        weight = qweight I32 [K/8, N] (nibble i = row 8r + i), zeros = qzeros I32 [K/g, N/8]
//                   or absent (symmetric: z = 8), nibble i of a zero word = z - zeroOffset at column 8c + i;
//                   scales [K/g, N]
//   CompressedInt4  weight = weight_packed I32 [N, ceil(K/8)] (nibble i = column 8c + i, stored + 8),
//                   zeros = weight_zero_point I32 [ceil(N/8), K/g] (nibble i = row 8r + i, stored + 8) or
//                   absent (z = 8 in stored units), scales = weight_scale [N, K/g]
struct LinearPart {
  HostTensor weight;
  HostTensor scales;  // f16, bf16 or f32
  HostTensor zeros;
  HostTensor bias;  // absent, or [N]
  int64_t n;
};

struct LinearSource {
  LinearScheme scheme;
  int64_t k;             // inputs
  int64_t n;             // outputs, the sum of the parts
  int32_t groupSize;     // K-wise; divides K. Dense: 0
  int32_t zeroOffset;    // GPTQ: 1 (or 0 for gptq_v2); else 0
  int32_t siluMulPairs;  // 1: two parts of equal n, gate then up, used with Epilogue::SiluMul: out =
                         // silu(gate) * up
  int32_t numParts;      // 1..3
  LinearPart parts[3];
  // Null; or a dense tensor, loaded before, that is the only part's weight: an embedding which the head is
  // tied to. A backend whose two forms agree need not hold it twice.
  const Dense* table;
};

enum class Epilogue : int32_t {
  None = 0,
  SiluMul = 1,  // out [rows, N/2] = silu(y[:, :N/2]) * y[:, N/2:]
  Add = 2,      // out += y (residual)
};

// Activations are f32 on reference and cpu, f16 on cuda (Ops::activation): "act" below. Strides are in
// elements. Where activations have 16 bits, rows begin on 16 bytes and strides are multiples of 8: the
// columns between a width and the next multiple of 8 belong to the row, and are zero wherever a linear reads
// them.
struct Rows {
  void* data;      // act [count, width]
  int64_t stride;  // elements from one row to the next, >= width
};

struct KvLayer {
  // [numBlocks][2][numKvHeads][kvHeadBytes(kv dtype, Ops::pageHeadDim(headDim))], zeroed at first; [..][0]
  // keys, [..][1] values. How a head's numbers lie within those bytes is the backend's own affair.
  void* pages;
  int32_t numKvHeads;
  int32_t headDim;
};

struct EmbedArgs {
  const int32_t* ids;  // [rows], resolved (never negative)
  const Dense* table;  // [vocab, width]
  Rows out;
  int32_t rows, width;
  float scale;  // multiplies the embedding (1 = none)
};

struct RmsNormArgs {
  Rows in;              // [rows, width]
  Rows residual;        // data null: none; else residual += in first, and residual is normed
  const Dense* weight;  // [width]
  Rows out;             // may alias in
  int32_t rows, width;
  float eps;
};

struct LinearArgs {
  Rows in;   // [rows, K]
  Rows out;  // [rows, N], or [rows, N/2] with SiluMul
  const Linear* weight;
  int32_t rows;
  Epilogue epilogue;
  int32_t floatOut;  // 1: out is f32 whatever the activations are (logits; Epilogue::None)
};

// Optional per-head RMS norm of q and k (Qwen3), then rotary embedding of q (in place) and k, then k and v
// into the cache. qkv is [rows, (numHeads + 2 numKvHeads) * headDim]: q heads, k heads, v heads.
struct RopeStoreKvArgs {
  Rows qkv;
  int32_t rows;
  const int32_t* positions;    // [rows]
  const int32_t* slotMapping;  // [rows]: block * kBlockSize + offset; negative: a row that stores nothing
  const float* cosSin;  // [maxContext][rotaryDim]: rotaryDim/2 cosines, then rotaryDim/2 sines; null: no rope
  int32_t rotaryDim;    // <= headDim, even; the rest of a head is left as it is
  int32_t interleaved;  // 0: pairs (i, i + rotaryDim/2) (Hugging Face); 1: pairs (2i, 2i + 1)
  int32_t numHeads, numKvHeads, headDim;
  const Dense* qNorm;  // [headDim] or null
  const Dense* kNorm;  // [headDim] or null
  float normEps;
  KvLayer kv;
};

// Causal attention of ragged sequences over paged keys and values. Token i of sequence s (row queryStart[s] +
// i) is at position contextLens[s] - count + i and sees positions (p - window, p] of its own sequence. The
// reduction walks fixed segments of kAttentionSegment positions by absolute position and merges (max, sum,
// accumulator) in order, in every kernel. Blocks wholly before the window may hold garbage and are never
// read.
constexpr int kAttentionSegment = 512;
struct AttentionArgs {
  Rows q;    // [rows, numHeads * headDim]
  Rows out;  // [rows, numHeads * headDim]
  int32_t rows, numSeqs;
  const int32_t* queryStart;   // [numSeqs + 1]
  const int32_t* contextLens;  // [numSeqs], this step included
  const int32_t* blockTables;  // [numSeqs, maxBlocksPerSeq]
  int32_t maxBlocksPerSeq;
  int32_t numHeads, numKvHeads, headDim;
  float scale;
  int32_t slidingWindow;  // 0: none; w: a query at p sees keys at > p - w
  float softcap;          // 0: none; else scores = softcap * tanh(scores / softcap)
  KvLayer kv;
};

struct SiluMulArgs {
  Rows in;   // [rows, 2 width]: gate, up
  Rows out;  // [rows, width]
  int32_t rows, width;
};

struct AddArgs {
  Rows a, b, out;  // [rows, width]
  int32_t rows, width;
};

struct GatherRowsArgs {
  Rows in;               // [*, width]
  const int32_t* index;  // [rows]
  Rows out;              // [rows, width]
  int32_t rows, width;
};

struct SoftcapArgs {
  Rows x;  // f32 [rows, width] (logits), in place: cap * tanh(x / cap)
  int32_t rows, width;
  float cap;
};

// What a captured sample() can't know: how many of its rows the step has (the others are left alone), and how
// far this step's output arrays lie behind the ones captured, in elements of 4 bytes.
struct ReplayedRows {
  int32_t rows, outOffset;
};

// Chooses one token a row. Order: mask (allowed ids), bias (banned ids are -inf); repetition penalty over
// prompt and output, presence and frequency over output; temperature; min-p; top-k; top-p over what is left,
// renormalised (the smallest set, in descending order, whose probability reaches topP). Ties go to the lowest
// id everywhere. Then argmax of (logit / temperature + Gumbel noise); temperature 0 is argmax after bias and
// penalties. What is not a number counts as -inf; with nothing left, the lowest id that mask and bias allow.
//
// Gumbel noise of token t at position p: word (t & 3) of Philox4x32-10 with counter (p, t >> 2, 0, 0) and key
// (seedLo, seedHi); u = (word + 0.5) * 2^-32; noise = -log(-log(u)).   [Salmon et al. 2011, Random123]
//
// Log-probabilities and ranks are of the raw logits (before everything above); rank 1 is the most likely, and
// of equal logits the lower id comes first. Where none are wanted, 0 is written for both.
struct SampleArgs {
  // Null; or on the device, for a call that is captured and replayed with another number of rows and another
  // slot's outputs each time.
  const ReplayedRows* replayed;
  const float* logits;  // [rows, vocab], not modified
  int64_t stride;       // elements
  int32_t rows, vocab;
  // per row, [rows]
  const int32_t* rowSlot;      // sequence slot: row of history
  const int32_t* rowPosition;  // p: position of the row's input token; tokens 0..p of history are the context
  const float *temperature, *topP, *minP, *repetition, *presence, *frequency;
  const int32_t *topK, *seedLo, *seedHi;
  const int32_t* targetId;   // -1, or the token whose log-probability and rank is wanted too
  const int32_t* numTop;     // 0..kMaxLogprobs; -1: no log-probabilities wanted for this row at all
  const int32_t* biasStart;  // [rows + 1], indexes biasId and biasValue
  const int32_t* biasId;
  const float* biasValue;
  const int32_t* maskRow;  // -1, or the row of masks
  const uint32_t* masks;   // [*, ceil(vocab / 32)]: bit (t & 31) of word t / 32 set: token t is allowed
  // per sequence slot
  const int32_t* history;    // [slots, maxContext] token ids by position
  const int32_t* numPrompt;  // [slots] positions below it are prompt
  int32_t maxContext;
  // out, [rows]
  int32_t* sampledIds;
  float *logprob, *targetLogprob;
  int32_t *rank, *targetRank;
  int32_t* topIds;     // [rows, kMaxLogprobs], descending; entries beyond numTop are untouched
  float* topLogprobs;  // [rows, kMaxLogprobs]
  // The same rows' parameters (temperature .. maskRow) in host memory, for backends that choose what to
  // launch by them. Null in a capture, which serves the rows that Ops::sampleInGraph says yes to.
  const SampleArgs* host;
};

// One step, from the host's arrays to its results:
//
//   beginStep -> stage -> resolve -> body, head -> [stage] -> sample -> copyOut -> endStep
//   waitStep, from any thread: the results are on the host
//
// Two steps may be on their way at once, one per slot; ops run in the order of the calls, whatever the slot.
constexpr int kStepSlots = 2;
constexpr int kMaxStepStages = 8;  // stages that mark() tells apart

// What a step is about to compute, in host memory that is valid during the call.
struct BeginStepArgs {
  int32_t slot;
  int32_t numTokens, numSeqs;
  const int32_t* queryStart;   // [numSeqs + 1]
  const int32_t* contextLens;  // [numSeqs]
  int32_t fixedRows;           // 0, or the rows of a captured graph that could be replayed (>= numTokens)
  int32_t replayable;          // out, 1: that graph computes this step
};

// Rows of bytes of a block that go to one array of the device.
struct StagePiece {
  void* target;                  // device
  size_t offset;                 // in the block, a multiple of 4
  size_t rowBytes, targetPitch;  // bytes, multiples of 4; rows lie back to back in the block
  int32_t rows;
};

// Brings a block of host memory to the device, beside what is being computed, and puts its pieces in place in
// order with the ops.
struct StageArgs {
  int32_t slot;
  const void* block;  // from allocHost; unchanged until waitStep(slot)
  void* staging;      // device, as large; no other step of these two uses it
  size_t bytes;
  const StagePiece* pieces;
  int32_t numPieces;
};

// Names every row's token and writes it into its sequence's history. ids[r] of -1 - s becomes sampled[s].
struct ResolveArgs {
  int32_t* ids;  // [numTokens]
  int32_t numTokens, numSeqs, numSampled;
  const int32_t* sampled;          // device, [numSampled]: sampled ids of the previous step
  const int32_t* queryStart;       // [numSeqs + 1]
  const int32_t* positions;        // [numTokens]
  const int32_t* seqSlot;          // [numSeqs]
  const int32_t* numPromptTokens;  // [numSeqs]
  int32_t* history;                // [slots, maxContext]
  int32_t* numPrompt;              // [slots]
  int32_t maxContext, vocabSize;
  // 0, or the rows of a captured graph: rows [numTokens, fixedRows) become token 0 at position 0 and store
  // nothing; rows [numTokens, fixedRows) of sampleRows become row 0.
  int32_t fixedRows;
  int32_t *fixedPositions, *fixedSlotMapping, *fixedSampleRows;
  ReplayedRows* replayed;  // becomes {numTokens, outOffset} when there are fixed rows
  int32_t outOffset;
};

// Rows of bytes from the device to the host.
struct CopyOutArgs {
  void* target;  // from allocHost
  size_t targetPitch;
  const void* source;  // device; not written before waitStep has returned
  size_t sourcePitch, rowBytes;
  int32_t rows;
};

struct Graph;  // ops captured to be replayed; belongs to its context

// What a device is, before anything is opened on it.
struct DeviceDescription {
  char name[128];
  char isa[32];                      // "sm_90"
  char driver[64];                   // version
  uint64_t totalMemory, freeMemory;  // bytes
  int32_t measurable;                // 1: timeLinear tells the device's time; 0: a simulator's
};

struct Ops {
  uint32_t abiVersion;  // kOpsAbiVersion
  const char* name;     // "reference", "cpu", ...
  DType activation;     // type of every Rows: F32 or F16

  // The device, or non-zero with one line that says why there is none. Null: the host's processor and memory.
  int (*describe)(DeviceDescription*, char* reason, size_t reasonSize);
  // Bytes that open() takes, beside the weights and what alloc() is asked for.
  size_t (*scratchBytes)(const OpenOptions*);

  Context* (*open)(const OpenOptions*, char* error,
                   size_t errorSize);        // null on failure, with the reason in error
  void (*close)(Context*);                   // frees everything made from the context
  const char* (*lastError)(const Context*);  // after an op returned non-zero

  // Device memory, 64-byte aligned, zeroed. Host memory that the device reads quickly (pinned on a GPU).
  void* (*alloc)(Context*, size_t bytes);
  void (*release)(Context*, void*);
  void* (*allocHost)(Context*, size_t bytes);
  void (*releaseHost)(Context*, void*);
  int (*upload)(Context*, void* dst, const void* src, size_t bytes);  // src may change afterwards
  // In order with the ops; dst holds the bytes once sync() or waitStep() has returned.
  int (*download)(Context*, void* dst, const void* src, size_t bytes);
  int (*sync)(Context*);

  // Weights. loadLinear repacks into the backend's own form and keeps nothing of the source; loadDense with
  // keep != 0 may go on reading the source in place until the context closes (an embedding in a mapped file).
  Linear* (*loadLinear)(Context*, const LinearSource*);
  Dense* (*loadDense)(Context*, const HostTensor*, int keep);
  size_t (*linearBytes)(const LinearSource*);         // what loadLinear will take
  size_t (*denseBytes)(const HostTensor*, int keep);  // what loadDense will take
  int (*finishLoading)(Context*);  // after the last weight: all of them are in place, staging memory is gone

  int (*embed)(Context*, const EmbedArgs*);
  int (*rmsNorm)(Context*, const RmsNormArgs*);
  int (*linear)(Context*, const LinearArgs*);
  int (*ropeStoreKv)(Context*, const RopeStoreKvArgs*);
  int (*attention)(Context*, const AttentionArgs*);
  int (*siluMul)(Context*, const SiluMulArgs*);
  int (*add)(Context*, const AddArgs*);
  int (*gatherRows)(Context*, const GatherRowsArgs*);
  int (*softcap)(Context*, const SoftcapArgs*);
  int (*sample)(Context*, const SampleArgs*);

  // The step (drawn above).
  int (*beginStep)(Context*, BeginStepArgs*);
  int (*stage)(Context*, const StageArgs*);
  int (*resolve)(Context*, const ResolveArgs*);
  int (*copyOut)(Context*, const CopyOutArgs*);  // beside the ops that follow
  // The time from the previous mark of this slot (or beginStep) belongs to `stage`; -1: to none.
  int (*mark)(Context*, int32_t slot, int32_t stage);
  int (*endStep)(Context*, int32_t slot, int32_t stage);  // the last mark, after the last copyOut
  // Waits for endStep(slot): its results are on the host. microseconds [kMaxStepStages] are added up by
  // stage. May be called from another thread than the ops, one at a time.
  int (*waitStep)(Context*, int32_t slot, double* microseconds, char* error, size_t errorSize);

  // Capturing: the ops between the two calls are recorded instead of run. Null: a backend without graphs. A
  // replay reads rows, lengths and pages from the same device arrays as the capture; beginStep and resolve
  // with its rows in fixedRows go before.
  int (*beginCapture)(Context*);
  Graph* (*endCapture)(Context*);
  int (*replay)(Context*, Graph*);
  // Whether a captured sample() computes rows with these parameters (host memory). A backend with graphs has
  // it.
  int (*sampleInGraph)(const SampleArgs* host);

  // Tiles: ways to compute a linear that differ in time and not in a bit of the result, but for the matmul
  // library's, which is one of them. All null: a backend with one way.
  //
  // The tile's name, null beyond the last. A change of names or order raises tileRevision, as does one that
  // makes earlier measurements worthless.
  const char* (*tileName)(int32_t tile);
  int32_t tileRevision;
  // Whether the context's linear of that index has the tile for calls of that many rows, worth measuring.
  int (*isTileCandidate)(const Context*, int32_t linear, int32_t rows, int32_t tile);
  // Microseconds of one call among others like it, on made-up weights that no cache holds. The first call
  // takes memory for them until the context closes. Waits.
  int (*timeLinear)(Context*, int32_t linear, int32_t rows, int32_t tile, double* microseconds);
  // The version of the library that OpenOptions::useMatmulLibrary would use; non-zero: `text` says why there
  // is none.
  int (*matmulLibrary)(char* text, size_t textSize);

  DType kvDefault;                      // KV page type when none is asked for
  int (*setKvDType)(Context*, DType);   // before the first op; non-zero: this backend has no kernels for it
  int (*pageHeadDim)(int32_t headDim);  // values of a head in a page, >= headDim; 0: no kernels for it
  int (*numThreads)(const Context*);
};

const Ops* referenceOps();
const Ops* cpuOps();

}  // namespace octavo
