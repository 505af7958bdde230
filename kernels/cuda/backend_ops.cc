// The ops of the table as launches.
#include <algorithm>
#include <type_traits>

#include "backend.h"
#include "sample.h"

namespace octavo::cuda {
namespace {

constexpr int kDecodeTileRows = 16;
constexpr int kBlocksPerMultiprocessor = 4;  // of decoding attention: 43 KB of shared memory at head dim 128

int roundUp8(int value) {
  return (value + 7) / 8 * 8;
}

Half* halves(const Rows& rows) {
  return static_cast<Half*>(rows.data);
}

const Half* halves(const Dense* dense) {
  return dense ? static_cast<const Half*>(dense->data) : nullptr;
}

template <class Launch>
int launchOp(Context* context, const char* name, const Launch& launch) {
  return guarded(context, [&] { return self(context)->check(launch(self(context)), name); });
}

LinearEpilogue epilogueOf(Epilogue epilogue) {
  if (epilogue == Epilogue::Add) return LinearEpilogue::Residual;
  return epilogue == Epilogue::SiluMul ? LinearEpilogue::SiluMul : LinearEpilogue::None;
}

// The tile that was chosen for this many rows; -1: none, the default one's turn.
int tileOf(const CudaContext* context, const CudaLinear& weight, int rows) {
  for (const TileRange& range : weight.tiles)
    if (rows <= range.mostRows) return range.tile;
  return context->library && rows >= context->libraryRows && libraryComputes(weight, rows) ? kLibraryTile : -1;
}

// The columns up to the next multiple of 8 belong to the row (ops.h): they get the zeros of the padding.
template <class Out>
int linearTo(CudaContext* context, const LinearArgs& args) {
  const auto& weight = static_cast<const CudaLinear&>(*args.weight);
  LinearCall<Half, Out> call{};
  call.in = halves(args.in);
  call.inStride = args.in.stride;
  call.out = static_cast<Out*>(args.out.data);
  call.outStride = args.out.stride;
  call.rows = args.rows;
  call.inWidth = roundUp8(static_cast<int>(weight.k));
  call.outWidth = args.floatOut ? weight.outputs : roundUp8(weight.outputs);
  call.bias = weight.bias;
  call.epilogue = epilogueOf(args.epilogue);
  call.workspace = {context->scratch.linearPartials, context->scratch.linearCounters};
  return launchByTile(context, weight, call, tileOf(context, weight, args.rows));
}

const StepAttention* findAttention(const CudaContext* context, const AttentionArgs& args) {
  for (const StepAttention& attention : context->attentions) {
    const AttentionShape& shape = attention.shape;
    if (shape.numHeads == args.numHeads && shape.numKvHeads == args.numKvHeads &&
        shape.headDim == args.headDim && shape.slidingWindow == args.slidingWindow)
      return &attention;
  }
  return nullptr;
}

AttentionCall callOf(const CudaContext* context, const AttentionArgs& args, const StepAttention& attention) {
  AttentionCall call{};
  call.q = halves(args.q);
  call.qStride = args.q.stride;
  call.out = halves(args.out);
  call.outStride = args.out.stride;
  call.pages = static_cast<const Half*>(args.kv.pages);
  call.blockTables = args.blockTables;
  call.maxBlocksPerSeq = args.maxBlocksPerSeq;
  call.numHeads = args.numHeads;
  call.numKvHeads = args.numKvHeads;
  call.headDim = attention.pageDim;
  call.scale = args.scale;
  call.slidingWindow = args.slidingWindow;
  call.softcap = args.softcap;
  call.items = attention.arrays.items;
  call.itemTokens = attention.arrays.itemTokens;
  call.tokens = attention.arrays.tokens;
  call.partials = context->scratch.attentionPartials;
  call.counters = context->scratch.attentionCounters;
  return call;
}

// Of a capture one launch that walks however many items a step has; else the step's own runs.
int launchAttention(CudaContext* context, AttentionCall call, const StepAttention& attention, int rows) {
  if (context->capturing) {
    const int wanted = context->multiprocessors * kBlocksPerMultiprocessor / std::max(1, call.numKvHeads);
    call.tileRows = kDecodeTileRows;
    call.numItems = std::max({1, rows, wanted});
    call.itemCount = attention.arrays.count;
    return cuda::attention(call, context->compute);
  }
  for (const AttentionRun& run : attention.runs) {
    call.firstItem = run.firstItem;
    call.numItems = run.numItems;
    call.tileRows = run.tileRows;
    if (const int status = cuda::attention(call, context->compute)) return status;
  }
  return 0;
}

}  // namespace

template <class Out>
int launchByTile(CudaContext* context, const CudaLinear& weight, const LinearCall<Half, Out>& call, int tile) {
  if constexpr (std::is_same_v<Out, Half>) {
    // A tile chosen for a range of rows may be the library's only for the larger of them.
    if (tile == kLibraryTile && libraryComputes(weight, call.rows)) return libraryLinear(context, weight, call);
  }
  const LinearTile chosen = tile >= 0 && tile < kNumLinearTiles ? kLinearTiles[tile] : LinearTile{};
  return weight.int4
             ? linearInt4(call, weight.codes, context->compute, chosen)
             : linearDense(call, weight.dense, weight.paddedN, weight.paddedK, context->compute, chosen);
}

template int launchByTile<Half>(CudaContext*, const CudaLinear&, const LinearCall<Half, Half>&, int);
template int launchByTile<float>(CudaContext*, const CudaLinear&, const LinearCall<Half, float>&, int);

int opEmbed(Context* base, const EmbedArgs* args) {
  return launchOp(base, "embed", [&](CudaContext* context) {
    return embed<Half>(args->ids, halves(args->table), halves(args->out), args->out.stride, args->rows,
                       args->width, args->scale, context->compute);
  });
}

int opRmsNorm(Context* base, const RmsNormArgs* args) {
  return launchOp(base, "rms_norm", [&](CudaContext* context) {
    return rmsNorm<Half>(halves(args->in), args->in.stride, halves(args->residual), args->residual.stride,
                         halves(args->weight), halves(args->out), args->out.stride, args->rows, args->width,
                         args->eps, context->compute);
  });
}

int opLinear(Context* base, const LinearArgs* args) {
  return launchOp(base, "linear", [&](CudaContext* context) {
    return args->floatOut ? linearTo<float>(context, *args) : linearTo<Half>(context, *args);
  });
}

int opRopeStoreKv(Context* base, const RopeStoreKvArgs* args) {
  return launchOp(base, "rope_store_kv", [&](CudaContext* context) {
    return ropeStoreKv<Half>(
        {halves(args->qkv), args->qkv.stride, args->rows, args->positions, args->slotMapping, args->cosSin,
         args->rotaryDim, args->interleaved != 0, args->numHeads, args->numKvHeads, args->headDim,
         halves(args->qNorm), halves(args->kNorm), args->normEps, static_cast<Half*>(args->kv.pages),
         pageHeadDim(args->headDim)},
        context->compute);
  });
}

int opAttention(Context* base, const AttentionArgs* args) {
  return launchOp(base, "attention", [&](CudaContext* context) {
    const StepAttention* attention = findAttention(context, *args);
    if (!attention || attention->pageDim == 0) return kInvalidShape;
    AttentionCall call = callOf(context, *args, *attention);
    if (attention->pageDim == args->headDim) return launchAttention(context, call, *attention, args->rows);
    call.q = context->scratch.queries;
    call.out = context->scratch.attended;
    call.qStride = call.outStride = static_cast<int64_t>(args->numHeads) * attention->pageDim;
    int status = copyHeads(halves(args->q), args->q.stride, args->headDim, context->scratch.queries,
                           call.qStride, attention->pageDim, args->rows, args->numHeads, context->compute);
    if (status == 0) status = launchAttention(context, call, *attention, args->rows);
    if (status == 0)
      status = copyHeads(call.out, call.outStride, attention->pageDim, halves(args->out), args->out.stride,
                         args->headDim, args->rows, args->numHeads, context->compute);
    return status;
  });
}

int opSiluMul(Context* base, const SiluMulArgs* args) {
  return launchOp(base, "silu_mul", [&](CudaContext* context) {
    return siluMul<Half>(halves(args->in), args->in.stride, halves(args->out), args->out.stride, args->rows,
                         args->width, context->compute);
  });
}

int opAdd(Context* base, const AddArgs* args) {
  return launchOp(base, "add", [&](CudaContext* context) {
    return add<Half>(halves(args->a), args->a.stride, halves(args->b), args->b.stride, halves(args->out),
                     args->out.stride, args->rows, args->width, context->compute);
  });
}

int opGatherRows(Context* base, const GatherRowsArgs* args) {
  return launchOp(base, "gather_rows", [&](CudaContext* context) {
    return gatherRows<Half>(halves(args->in), args->in.stride, args->index, halves(args->out),
                            args->out.stride, args->rows, args->width, context->compute);
  });
}

int opSoftcap(Context* base, const SoftcapArgs* args) {
  return launchOp(base, "softcap", [&](CudaContext* context) {
    return softcap(static_cast<float*>(args->x.data), args->x.stride, args->rows, args->width, args->cap,
                   context->compute);
  });
}

int opSample(Context* base, const SampleArgs* args) {
  return launchOp(base, "sample", [&](CudaContext* context) {
    const SampleStages stages = args->host ? sampleStages(*args->host) : kReplayedStages;
    const SampleCall call{*args, stages, context->scratch.sample, base->options.maxSamples};
    return sample(call, context->compute);
  });
}

int sampleInGraph(const SampleArgs* host) {
  return fitsReplay(sampleStages(*host)) ? 1 : 0;
}

}  // namespace octavo::cuda
