// A step's inputs on the device: pieces of a staged block to the arrays that kernels (and captured graphs)
// read, and the ids of tokens that the host doesn't know yet. Bytes: some 10 KB for 256 sequences; bound by
// latency. A block takes a piece (or a sequence) in words of 4 bytes, which is what pieces are made of.
#include "device.h"
#include "launchers.h"

namespace octavo::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kBlocksPerPiece = 8;

struct Pieces {
  StagePiece piece[kMostPieces];
};

// Grid: blocks of a piece, pieces.
KERNEL placePiecesKernel(const unsigned char* block, Pieces pieces) {
  const StagePiece& piece = pieces.piece[blockY()];
  const auto* source = reinterpret_cast<const uint32_t*>(block + piece.offset);
  const auto rowWords = static_cast<int64_t>(piece.rowBytes / 4), total = rowWords * piece.rows;
  const auto pitch = static_cast<int64_t>(piece.targetPitch / 4);
  auto* target = static_cast<uint32_t*>(piece.target);
  for (int64_t i = blockX() * kThreads + threadX(); i < total; i += gridX() * kThreads) {
    const int64_t at =
        piece.rows == 1 ? i : i / rowWords * pitch + i % rowWords;  // a division costs 100 cycles
    target[at] = source[i];
  }
}

// Blocks [0, numSeqs): a sequence each. The last one, of a step that replays a graph: the rows to fill up.
KERNEL resolveKernel(ResolveArgs args) {
  if (blockX() == args.numSeqs) {
    if (threadX() == 0) *args.replayed = {args.numTokens, args.outOffset};
    for (int row = args.numTokens + threadX(); row < args.fixedRows; row += kThreads) {
      args.ids[row] = 0;
      args.fixedPositions[row] = 0;
      args.fixedSlotMapping[row] = -1;
      args.fixedSampleRows[row] = 0;
    }
    return;
  }
  const int slot = args.seqSlot[blockX()];
  int32_t* history = args.history + static_cast<int64_t>(slot) * args.maxContext;
  for (int row = args.queryStart[blockX()] + threadX(); row < args.queryStart[blockX() + 1];
       row += kThreads) {
    int id = args.ids[row];
    if (id < 0) id = -1 - id < args.numSampled ? args.sampled[-1 - id] : 0;
    // What the sampler gave is checked by the host when the step is collected, after this one has begun.
    if (id < 0 || id >= args.vocabSize) id = 0;
    args.ids[row] = id;
    history[args.positions[row]] = id;
  }
  if (threadX() == 0) args.numPrompt[slot] = args.numPromptTokens[blockX()];
}

}  // namespace

int placePieces(const void* block, const StagePiece* pieces, int count, Stream stream) {
  for (int first = 0; first < count; first += kMostPieces) {
    Pieces part = {};
    const int now = minOf(kMostPieces, count - first);
    for (int i = 0; i < now; ++i) part.piece[i] = pieces[first + i];
    const int status = launch(placePiecesKernel, Grid{kBlocksPerPiece, static_cast<uint32_t>(now)}, kThreads,
                              0, stream, static_cast<const unsigned char*>(block), part);
    if (status) return status;
  }
  return 0;
}

int resolve(const ResolveArgs& args, Stream stream) {
  return launch(resolveKernel, Grid{static_cast<uint32_t>(args.numSeqs + (args.fixedRows > 0 ? 1 : 0))},
                kThreads, 0, stream, args);
}

}  // namespace octavo::cuda
