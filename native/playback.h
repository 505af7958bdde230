// A loaded program, bound to memory: each instruction holds the arguments of its op with every pointer that
// never changes already in place, so that playing a step only fills in rows and step inputs.
#pragma once
#include <cstdint>
#include <memory>
#include <variant>
#include <vector>

#include "backend.h"
#include "passes.h"
#include "program.h"
#include "spec.h"
#include "weights.h"

namespace octavo {

// What capturing took: graphs, seconds, and bytes by which it lowered the device's free memory (what other
// processes took or gave meanwhile included). Twin of RunnerGraphs.
struct GraphUse {
  int32_t count = 0;
  double seconds = 0;
  size_t bytes = 0;
};

// Bytes taken by purpose: twin of RunnerMemory.
struct MemoryUse {
  size_t weights = 0, kvCache = 0, workspace = 0;
  GraphUse graphs;
};

class Playback {
 public:
  // Takes KV pages, workspace and rope tables. `spec` and `weights` may go afterwards.
  // Throws ERR_OCTAVO_MEMORY or ERR_OCTAVO_DEVICE.
  Playback(const Device& device, const RunnerSpec& spec);
  Playback(const Playback&) = delete;
  Playback& operator=(const Playback&) = delete;

  // Fixes the arguments of every instruction. `weights` come last, as they are what takes long to load.
  void bind(const Program& program, LoadedWeights weights);

  size_t kvCacheBytes() const { return kvCacheBytes_; }
  size_t workspaceBytes() const { return workspaceBytes_; }

  // Body: all rows of the step, of which sampleRows[0 .. numSamples) (device pointer) may be asked for in the
  // head. Throws ERR_OCTAVO_DEVICE.
  void playBody(const StepInputs& step, const int32_t* sampleRows, int32_t numSamples) const;
  // Head: logits of token rows sampleRows[first .. first + count), count <= logitsRows, into logits(). The same
  // sampleRows as the body's.
  void playHead(const StepInputs& step, const int32_t* sampleRows, int32_t first, int32_t count) const;
  // [logitsRows, vocabSize]
  const float* logits() const { return logits_; }

 private:
  struct Rope {
    const float* cosSin;  // [maxModelLen][rotaryDim]
    int32_t rotaryDim, interleaved;
  };
  // Rows of a token buffer that the head reads: [maxNumSamples][width], kept from one pass to the end of the step.
  struct KeptRows {
    Rows from;
    char* to;
    size_t rowBytes;
  };
  using Arguments = std::variant<EmbedArgs, RmsNormArgs, LinearArgs, RopeStoreKvArgs, AttentionArgs,
                                 SiluMulArgs, AddArgs, GatherRowsArgs, SoftcapArgs>;

  void takeKvPages(const RunnerSpec& spec);
  void takeWorkspace(const Program& program);
  void takeRopeTables(const std::vector<RopePlan>& ropes);
  void takeKeptRows();
  Rows rowsOf(const Program& program, int32_t buffer, int32_t column = 0) const;
  void checkLogits(const Program& program, const Instruction& instruction) const;
  Arguments bindInstruction(const Program& program, const LoadedWeights& weights,
                            const Instruction& instruction) const;
  Arguments bindRopeStoreKv(const Program& program, const LoadedWeights& weights, const int32_t* a) const;
  Arguments bindAttention(const Program& program, const int32_t* a) const;
  int embed(EmbedArgs args, const int32_t* ids, int32_t rows) const;
  int play(const Arguments& arguments, const StepInputs& step, const int32_t* sampleRows, int32_t rows) const;
  void playAll(const std::vector<Arguments>& tape, const StepInputs& step, const int32_t* sampleRows,
               int32_t rows) const;
  void keepRows(const int32_t* sampleRows, int32_t numSamples, int32_t first, int32_t count) const;

  const Device& device_;
  const RunnerSizes sizes_;
  const int32_t passRows_;  // that are computed together
  size_t kvCacheBytes_ = 0, workspaceBytes_ = 0;
  std::vector<KvLayer> kvLayers_;
  std::vector<Rope> ropes_;
  char* tokenArea_ = nullptr;   // act [tokenColumns * passRows]
  char* sampleArea_ = nullptr;  // f32 or act [sampleColumns * logitsRows], 4 bytes a column: logits are f32
  const float* logits_ = nullptr;
  mutable MappedTables tables_;  // counts what is read of them
  std::vector<Arguments> body_, head_;
  // Where steps may have more rows than a pass:
  std::unique_ptr<Passes> passes_;
  std::vector<KeptRows> kept_;
  std::vector<Arguments> headOfKept_;  // the head, on kept rows
  std::vector<int32_t> keptIndex_;     // 0, 1, ... maxNumSamples - 1
};

}  // namespace octavo
