#include "sample_case.h"

#include <algorithm>
#include <memory>

namespace octavo::test {
namespace {

// The batch as arrays.
struct Columns {
  std::vector<float> logits, temperature, topP, minP, repetition, presence, frequency, biasValue;
  std::vector<int32_t> slot, position, topK, seedLo, seedHi, targetId, numTop, biasStart{0}, biasId, maskRow;
  std::vector<uint32_t> masks;

  explicit Columns(const SampleBatch& batch) {
    for (const SampleRowCase& row : batch.rows) {
      logits.insert(logits.end(), row.logits.begin(), row.logits.end());
      logits.insert(logits.end(), static_cast<size_t>(batch.padding), 1e30f);  // would win if it were read
      temperature.push_back(row.temperature);
      topP.push_back(row.topP);
      minP.push_back(row.minP);
      repetition.push_back(row.repetition);
      presence.push_back(row.presence);
      frequency.push_back(row.frequency);
      slot.push_back(row.slot);
      position.push_back(row.position);
      topK.push_back(row.topK);
      seedLo.push_back(row.seedLo);
      seedHi.push_back(row.seedHi);
      targetId.push_back(row.targetId);
      numTop.push_back(row.numTop);
      for (const auto& [id, value] : row.bias) {
        biasId.push_back(id);
        biasValue.push_back(value);
      }
      biasStart.push_back(static_cast<int32_t>(biasId.size()));
      const size_t words = (static_cast<size_t>(batch.vocab) + 31) / 32;
      maskRow.push_back(row.mask.empty() ? -1 : static_cast<int32_t>(masks.size() / words));
      masks.insert(masks.end(), row.mask.begin(), row.mask.end());
    }
  }
};

SampleResult emptyResult(size_t rows) {
  SampleResult result;
  result.ids = result.rank = result.targetRank = std::vector<int32_t>(rows, kUntouched);
  result.logprob = result.targetLogprob = std::vector<float>(rows, static_cast<float>(kUntouched));
  result.topIds.assign(rows * kMaxLogprobs, kUntouched);
  result.topLogprobs.assign(rows * kMaxLogprobs, static_cast<float>(kUntouched));
  return result;
}

// Points args at whatever `place` makes of each array.
template <class Place>
SampleArgs argsOf(const SampleBatch& batch, const Columns& c, const SampleResult& out, Place place) {
  SampleArgs args = {};
  args.stride = batch.vocab + batch.padding;
  args.rows = static_cast<int32_t>(batch.rows.size());
  args.vocab = batch.vocab;
  args.maxContext = kSampleContext;
  args.logits = place(c.logits);
  args.rowSlot = place(c.slot);
  args.rowPosition = place(c.position);
  args.temperature = place(c.temperature);
  args.topP = place(c.topP);
  args.minP = place(c.minP);
  args.repetition = place(c.repetition);
  args.presence = place(c.presence);
  args.frequency = place(c.frequency);
  args.topK = place(c.topK);
  args.seedLo = place(c.seedLo);
  args.seedHi = place(c.seedHi);
  args.targetId = place(c.targetId);
  args.numTop = place(c.numTop);
  args.biasStart = place(c.biasStart);
  args.biasId = place(c.biasId);
  args.biasValue = place(c.biasValue);
  args.maskRow = place(c.maskRow);
  args.masks = place(c.masks);
  args.history = place(batch.history);
  args.numPrompt = place(batch.numPrompt);
  args.sampledIds = place(out.ids);
  args.logprob = place(out.logprob);
  args.targetLogprob = place(out.targetLogprob);
  args.rank = place(out.rank);
  args.targetRank = place(out.targetRank);
  args.topIds = place(out.topIds);
  args.topLogprobs = place(out.topLogprobs);
  return args;
}

// Copies arrays to the device and keeps them there.
class Device {
 public:
  template <class T>
  T* operator()(const std::vector<T>& values) {
    auto buffer = std::make_shared<Buffer<T>>(values);
    kept_.push_back(buffer);
    return buffer->data();
  }
  // The contents of the array that `place` gave this pointer for.
  template <class T>
  std::vector<T> read(const T* pointer) const {
    for (const auto& held : kept_) {
      const auto buffer = std::static_pointer_cast<Buffer<T>>(held);
      if (buffer->data() == pointer) return buffer->host();
    }
    return {};
  }

 private:
  std::vector<std::shared_ptr<void>> kept_;
};

// A call over the batch on the device: kept arrays, and where the results lie.
struct DeviceCall {
  DeviceCall(const SampleBatch& batch, size_t resultRows, void* workspace)
      : columns(batch), result(emptyResult(resultRows)) {
    const auto place = [this](const auto& values) { return device(values); };
    call.args = argsOf(batch, columns, result, place);
    call.workspace = workspace;
    call.maxRows = static_cast<int>(batch.rows.size());
  }

  SampleResult sample() {
    run(cuda::sample(call, nullptr));
    result.ids = device.read(call.args.sampledIds);
    result.logprob = device.read(call.args.logprob);
    result.targetLogprob = device.read(call.args.targetLogprob);
    result.rank = device.read(call.args.rank);
    result.targetRank = device.read(call.args.targetRank);
    result.topIds = device.read(call.args.topIds);
    result.topLogprobs = device.read(call.args.topLogprobs);
    return result;
  }

  Device device;
  Columns columns;
  SampleResult result;
  cuda::SampleCall call = {};
};

SampleResult sampleOnce(const SampleBatch& batch, void* workspace) {
  DeviceCall call(batch, batch.rows.size(), workspace);
  const SampleArgs host = argsOf(batch, call.columns, call.result, [](const auto& values) {
    return const_cast<typename std::decay_t<decltype(values)>::value_type*>(values.data());
  });
  call.call.stages = cuda::sampleStages(host);
  return call.sample();
}

Buffer<uint64_t> workspaceOf(const SampleBatch& batch) {
  const size_t bytes = cuda::sampleWorkspaceBytes(static_cast<int>(batch.rows.size()), batch.vocab);
  return Buffer<uint64_t>(std::vector<uint64_t>((bytes + 7) / 8, 0));
}

bool close(float a, float b) {
  return a == b || std::fabs(a - b) <= 2e-5f;
}

template <class T>
std::vector<T> slice(const std::vector<T>& values, size_t row, size_t count) {
  const auto first = values.begin() + static_cast<int64_t>(row * count);
  return std::vector<T>(first, first + static_cast<int64_t>(count));
}

}  // namespace

SampleResult sampleOnDevice(const SampleBatch& batch, int calls) {
  Buffer<uint64_t> workspace = workspaceOf(batch);
  const SampleResult first = sampleOnce(batch, workspace.data());
  for (int call = 1; call < calls; ++call)
    CHECK(sameResult(first, sampleOnce(batch, workspace.data())), "vocab %d: call %d differs", batch.vocab,
          call);
  return first;
}

SampleResult sampleReplayed(const SampleBatch& batch, int present, int offset) {
  Buffer<uint64_t> workspace = workspaceOf(batch);
  DeviceCall call(batch, batch.rows.size() + static_cast<size_t>(offset), workspace.data());
  Buffer<ReplayedRows> replayed(std::vector<ReplayedRows>{{present, offset}});
  call.call.args.replayed = replayed.data();
  call.call.stages = cuda::kReplayedStages;
  return call.sample();
}

SampleResult sampleByReference(const SampleBatch& batch) {
  Columns columns(batch);
  SampleResult result = emptyResult(batch.rows.size());
  const SampleArgs args = argsOf(batch, columns, result, [](const auto& values) {
    return const_cast<typename std::decay_t<decltype(values)>::value_type*>(values.data());
  });
  OpenOptions options = {};
  options.threads = 1;
  options.maxRows = options.maxSeqs = options.maxSamples = static_cast<int32_t>(batch.rows.size());
  options.maxContext = kSampleContext;
  options.vocabSize = batch.vocab;
  char error[256] = "";
  Context* context = referenceOps()->open(&options, error, sizeof error);
  CHECK(context != nullptr, "%s", error);
  const int status = referenceOps()->sample(context, &args);
  referenceOps()->close(context);
  CHECK(status == 0, "%d", status);
  return result;
}

void checkEqual(const SampleResult& got, const SampleResult& want, const char* what) {
  const auto equal = [what](const auto& a, const auto& b, const char* field, size_t perRow) {
    for (size_t i = 0; i < b.size(); ++i) {
      const bool same = std::is_same_v<std::decay_t<decltype(a[0])>, float>
                            ? close(static_cast<float>(a[i]), static_cast<float>(b[i]))
                            : a[i] == b[i];
      CHECK(same, "%s: %s of row %zu, entry %zu: %.9g instead of %.9g", what, field, i / perRow, i % perRow,
            static_cast<double>(a[i]), static_cast<double>(b[i]));
    }
  };
  equal(got.ids, want.ids, "sampledIds", 1);
  equal(got.rank, want.rank, "rank", 1);
  equal(got.logprob, want.logprob, "logprob", 1);
  equal(got.targetRank, want.targetRank, "targetRank", 1);
  equal(got.targetLogprob, want.targetLogprob, "targetLogprob", 1);
  equal(got.topIds, want.topIds, "topIds", kMaxLogprobs);
  equal(got.topLogprobs, want.topLogprobs, "topLogprobs", kMaxLogprobs);
}

bool sameResult(const SampleResult& a, const SampleResult& b) {
  return sameBits(a.ids, b.ids) && sameBits(a.rank, b.rank) && sameBits(a.targetRank, b.targetRank) &&
         sameBits(a.topIds, b.topIds) && sameBits(a.logprob, b.logprob) &&
         sameBits(a.targetLogprob, b.targetLogprob) && sameBits(a.topLogprobs, b.topLogprobs);
}

std::vector<float> normalLogits(int vocab, float scale) {
  std::vector<float> logits(static_cast<size_t>(vocab));
  for (float& x : logits) x = scale * normal();
  return logits;
}

SampleResult rowOf(const SampleResult& result, size_t row) {
  SampleResult one;
  one.ids = slice(result.ids, row, 1);
  one.rank = slice(result.rank, row, 1);
  one.targetRank = slice(result.targetRank, row, 1);
  one.topIds = slice(result.topIds, row, kMaxLogprobs);
  one.logprob = slice(result.logprob, row, 1);
  one.targetLogprob = slice(result.targetLogprob, row, 1);
  one.topLogprobs = slice(result.topLogprobs, row, kMaxLogprobs);
  return one;
}

}  // namespace octavo::test
