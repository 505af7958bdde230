// The sampler against the reference backend's full sort: every parameter alone and together, ties,
// infinities, NaN, vocabularies from 1 to 128256, and a row's independence of its batch. The distribution of
// the draws is in sample_distribution_test.cc.
#include <limits>

#include "sample_case.h"

namespace octavo::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

int randomBelow(int bound) {
  return static_cast<int>(generator()() % static_cast<uint32_t>(bound));
}

void fillHistory(SampleBatch& batch) {
  for (int32_t& token : batch.history) token = randomBelow(batch.vocab);
  for (int i = 0; i < kSampleContext; i += 3)
    batch.history[static_cast<size_t>(i)] = randomBelow(batch.vocab) % 4;
}

SampleRowCase plainRow(int vocab, int index) {
  SampleRowCase row;
  row.logits = normalLogits(vocab, 3);
  row.seedLo = 1000 + index;
  row.seedHi = -index;
  row.slot = index % kSampleSlots;
  row.position = index * 7 % kSampleContext;
  return row;
}

std::vector<uint32_t> randomMask(int vocab, int oneIn) {
  std::vector<uint32_t> mask((static_cast<size_t>(vocab) + 31) / 32, 0);
  for (int t = 0; t < vocab; ++t) {
    if (randomBelow(oneIn) == 0) mask[static_cast<size_t>(t) / 32] |= 1u << (t % 32);
  }
  return mask;
}

void addBias(SampleRowCase& row, int vocab, int entries) {
  for (int i = 0; i < entries; ++i)
    row.bias.emplace_back(randomBelow(vocab), i % 5 == 0 ? -kInfinity : 2 * normal());
  row.bias.push_back(row.bias.front());  // an id may come twice
}

void addPenalties(SampleRowCase& row) {
  row.repetition = 1.3f;
  row.presence = 0.7f;
  row.frequency = 0.2f;
}

void wantLogprobs(SampleRowCase& row, int vocab) {
  row.numTop = randomBelow(kMaxLogprobs + 1);
  row.targetId = randomBelow(vocab);
}

using Change = void (*)(SampleRowCase& row, int vocab);

const std::pair<const char*, Change> kChanges[] = {
    {"plain", [](SampleRowCase&, int) {}},
    {"greedy", [](SampleRowCase& r, int) { r.temperature = 0; }},
    {"greedy, top-n",
     [](SampleRowCase& r, int v) {
       r.temperature = 0;
       wantLogprobs(r, v);
     }},
    {"cold", [](SampleRowCase& r, int) { r.temperature = 1e-3f; }},
    {"hot", [](SampleRowCase& r, int) { r.temperature = 2.5f; }},
    {"min-p", [](SampleRowCase& r, int) { r.minP = 0.05f; }},
    {"min-p 1", [](SampleRowCase& r, int) { r.minP = 1; }},
    {"top-k 1", [](SampleRowCase& r, int) { r.topK = 1; }},
    {"top-k 20", [](SampleRowCase& r, int) { r.topK = 20; }},
    {"top-k of all", [](SampleRowCase& r, int v) { r.topK = v; }},
    {"top-p", [](SampleRowCase& r, int) { r.topP = 0.9f; }},
    {"top-p 0", [](SampleRowCase& r, int) { r.topP = 0; }},
    {"top-k and top-p",
     [](SampleRowCase& r, int) {
       r.topK = 40;
       r.topP = 0.8f;
     }},
    {"min-p, top-k, top-p",
     [](SampleRowCase& r, int) {
       r.minP = 0.01f;
       r.topK = 50;
       r.topP = 0.95f;
       r.temperature = 1.5f;
     }},
    {"mask", [](SampleRowCase& r, int v) { r.mask = randomMask(v, 5); }},
    {"bias", [](SampleRowCase& r, int v) { addBias(r, v, 30); }},
    {"repetition", [](SampleRowCase& r, int) { r.repetition = 1.5f; }},
    {"presence", [](SampleRowCase& r, int) { r.presence = 1.5f; }},
    {"frequency", [](SampleRowCase& r, int) { r.frequency = -0.5f; }},
    {"penalties, greedy",
     [](SampleRowCase& r, int) {
       addPenalties(r);
       r.temperature = 0;
     }},
    {"log-probabilities", [](SampleRowCase& r, int v) { wantLogprobs(r, v); }},
    {"target only", [](SampleRowCase& r, int v) { r.targetId = v - 1; }},
    {"twenty", [](SampleRowCase& r, int) { r.numTop = kMaxLogprobs; }},
    {"all",
     [](SampleRowCase& r, int v) {
       r.mask = randomMask(v, 2);
       addBias(r, v, 12);
       addPenalties(r);
       wantLogprobs(r, v);
       r.temperature = 0.8f;
       r.minP = 0.001f;
       r.topK = 100;
       r.topP = 0.97f;
     }},
};

// One row per change; `alter` shapes the logits.
SampleBatch everyChange(int vocab, void (*alter)(std::vector<float>&)) {
  SampleBatch batch(vocab);
  fillHistory(batch);
  int index = 0;
  for (const auto& [name, change] : kChanges) {
    SampleRowCase row = plainRow(vocab, index++);
    alter(row.logits);
    change(row, vocab);
    batch.rows.push_back(row);
  }
  return batch;
}

void checkEveryChange(int vocab, void (*alter)(std::vector<float>&), const char* what) {
  const SampleBatch batch = everyChange(vocab, alter);
  const SampleResult want = sampleByReference(batch), got = sampleOnDevice(batch);
  for (size_t row = 0; row < batch.rows.size(); ++row) {
    const std::string name =
        std::string(what) + ", vocab " + std::to_string(vocab) + ", " + kChanges[row].first;
    checkEqual(rowOf(got, row), rowOf(want, row), name.c_str());
  }
}

void leave(std::vector<float>&) {}

void roundToTies(std::vector<float>& logits) {
  for (float& x : logits) x = std::round(x / 2) * 2;  // about nine values, 0 and -0 among them
}

void makeEqual(std::vector<float>& logits) {
  for (float& x : logits) x = 1.25f;
}

void plantInfinities(std::vector<float>& logits) {
  for (size_t i = 0; i < logits.size(); ++i) {
    if (i % 3 == 0) logits[i] = i % 2 ? -kInfinity : NAN;
  }
}

void plantPositiveInfinities(std::vector<float>& logits) {
  for (size_t i = 0; i < logits.size(); i += 5) logits[logits.size() - 1 - i] = kInfinity;
}

void makeNaN(std::vector<float>& logits) {
  for (float& x : logits) x = NAN;
}

TEST(sample_every_parameter) {
  for (int vocab : {1, 7, 512}) {
    for (int draw = 0; draw < 8; ++draw) checkEveryChange(vocab, leave, "normal");
  }
}

TEST(sample_every_parameter_many_slices) {
  checkEveryChange(32003, leave, "normal");
}

TEST(sample_ties) {
  for (int vocab : {1, 7, 512, 9001}) {
    checkEveryChange(vocab, roundToTies, "ties");
    checkEveryChange(vocab, makeEqual, "all equal");
  }
}

TEST(sample_infinities_and_nan) {
  for (int vocab : {1, 7, 512, 5000}) {
    checkEveryChange(vocab, plantInfinities, "-inf and NaN");
    checkEveryChange(vocab, plantPositiveInfinities, "+inf");
    checkEveryChange(vocab, makeNaN, "all NaN");
  }
}

TEST(sample_large_vocabulary) {
  SampleBatch batch(128256);
  batch.padding = 0;
  fillHistory(batch);
  for (int i = 0; i < 4; ++i) {
    batch.rows.push_back(plainRow(batch.vocab, i));
    kChanges[sizeof kChanges / sizeof kChanges[0] - 1 - static_cast<size_t>(i)].second(batch.rows.back(),
                                                                                       batch.vocab);
  }
  batch.rows[1].temperature = 0;
  batch.rows[2].topP = 0.95f;
  checkEqual(sampleOnDevice(batch), sampleByReference(batch), "vocab 128256");
}

// Of equal logits the lowest ids are kept, exactly as many as top-k says, and top-p takes no others back.
TEST(sample_keeps_the_lowest_of_ties) {
  for (const float topP : {1.0f, 0.99f, 0.5f}) {
    SampleBatch batch(300);
    for (int i = 0; i < 48; ++i) {
      SampleRowCase row = plainRow(batch.vocab, i);
      makeEqual(row.logits);
      row.topK = 4;
      row.topP = topP;
      batch.rows.push_back(row);
    }
    const SampleResult got = sampleOnDevice(batch, 1);
    checkEqual(got, sampleByReference(batch), "equal logits");
    std::vector<int> drawn(5, 0);
    for (const int32_t id : got.ids) ++drawn[static_cast<size_t>(id < 4 ? id : 4)];
    const int kept = topP == 0.5f ? 2 : 4;
    for (int id = 0; id < 5; ++id) CHECK((drawn[static_cast<size_t>(id)] > 0) == (id < kept), "id %d", id);
  }
}

// Nothing left: the lowest id that mask and biases allow, or that the mask allows, or 0.
TEST(sample_nothing_left) {
  SampleBatch batch(700);
  for (int i = 0; i < 4; ++i) batch.rows.push_back(plainRow(batch.vocab, i));
  for (float& x : batch.rows[0].logits) x = -kInfinity;
  batch.rows[0].mask.assign(22, 0);
  batch.rows[0].mask[12] = 0b1100;  // 386 and 387
  batch.rows[0].bias = {{386, -kInfinity}};
  batch.rows[1].mask.assign(22, 0);
  batch.rows[1].mask[20] = 1;  // 640, banned
  batch.rows[1].bias = {{640, -kInfinity}};
  batch.rows[2].mask.assign(22, 0);
  batch.rows[3].temperature = 0;
  for (int t = 0; t < batch.vocab; ++t) batch.rows[3].bias.emplace_back(t, -kInfinity);
  const SampleResult got = sampleOnDevice(batch);
  checkEqual(got, sampleByReference(batch), "nothing left");
  const std::vector<int32_t> ids = {387, 640, 0, 0};
  CHECK(got.ids == ids, "%d %d %d %d", got.ids[0], got.ids[1], got.ids[2], got.ids[3]);
}

// A row's result is the same bits alone, in the batch, in another order, with aligned and unaligned rows, and
// under every schedule.
TEST(sample_is_independent_of_the_batch) {
  SampleBatch batch = everyChange(4100, leave);
  const SampleResult together = sampleOnDevice(batch);
  batch.padding = 4 * 4 - 4100 % 4;
  underSchedules([&] { CHECK(sameResult(sampleOnDevice(batch), together), "padding %d", batch.padding); });
  SampleBatch reversed = batch;
  for (size_t i = 0; i < batch.rows.size(); ++i) reversed.rows[i] = batch.rows[batch.rows.size() - 1 - i];
  const SampleResult backwards = sampleOnDevice(reversed);
  for (size_t i = 0; i < batch.rows.size(); ++i) {
    SampleBatch alone = batch;
    alone.rows = {batch.rows[i]};
    CHECK(sameResult(sampleOnDevice(alone), rowOf(together, i)), "row %zu alone", i);
    CHECK(sameResult(rowOf(backwards, batch.rows.size() - 1 - i), rowOf(together, i)), "row %zu reversed", i);
  }
}

// Greedy rows and plain draws, of which a replay has some: the same bits, in the outputs of its slot alone.
TEST(sample_replayed) {
  SampleBatch batch(9001);
  fillHistory(batch);
  for (int i = 0; i < 5; ++i) {
    batch.rows.push_back(plainRow(batch.vocab, i));
    batch.rows.back().temperature = i % 2 ? 0.0f : 0.5f * static_cast<float>(i + 1);
    batch.rows.back().minP = i == 4 ? 0.05f : 0.0f;
  }
  const SampleResult whole = sampleOnDevice(batch);
  for (const int present : {0, 1, 3, 5}) {
    const int offset = 5;
    const SampleResult got = sampleReplayed(batch, present, offset);
    for (int at = 0; at < offset + 5; ++at) {
      const int row = at - offset;
      const bool written = row >= 0 && row < present;
      const auto i = static_cast<size_t>(at);
      const int32_t id = written ? whole.ids[static_cast<size_t>(row)] : kUntouched;
      CHECK(got.ids[i] == id, "%d present, entry %d: %d", present, at, got.ids[i]);
      CHECK(got.rank[i] == (written ? 0 : kUntouched), "%d present, rank %d", present, at);
    }
  }
}

TEST(sample_replayed_refuses_other_stages) {
  cuda::SampleCall call = {};
  ReplayedRows replayed = {1, 0};
  call.args.replayed = &replayed;
  call.args.rows = call.maxRows = 1;
  call.args.vocab = 16;
  call.args.stride = 16;
  call.stages.topK = true;
  CHECK(cuda::sample(call, nullptr) == -1, "launched");
}

// Penalties count the history up to the row's position, and output from the end of the prompt.
TEST(sample_penalties_by_hand) {
  SampleBatch batch(8);
  batch.numPrompt = {2, 2, 2, 2};
  batch.history[0] = 3;  // prompt: 3 5; output: 5 6 6; beyond the position: 7
  batch.history[1] = 5;
  batch.history[2] = 5;
  batch.history[3] = batch.history[4] = 6;
  batch.history[5] = 7;
  SampleRowCase row;
  row.position = 4;
  row.temperature = 0;
  const auto argmax = [&](std::vector<float> logits) {
    row.logits = std::move(logits);
    batch.rows = {row};
    const SampleResult got = sampleOnDevice(batch);
    checkEqual(got, sampleByReference(batch), "by hand");
    return got.ids[0];
  };
  row.repetition = 2;  // 3: 4 / 2 = 2; 5: -1 * 2; 7 keeps 2.5
  CHECK(argmax({0, 0, 0, 4, 0, -1, 0, 2.5f}) == 7, "repetition");
  CHECK(argmax({-3, -3, -3, -2.5f, -3, -1, -3, -2.5f}) == 5, "repetition of a negative logit");
  row.repetition = 1;
  row.presence = 1;  // 3 is prompt only; 5 and 6 lose 1
  CHECK(argmax({0, 0, 0, 1.5f, 0, 2, 2, 0}) == 3, "presence");
  row.presence = 0;
  row.frequency = 1;  // 5 loses 1, 6 loses 2
  CHECK(argmax({0, 0, 0, 0, 0, 2, 2.9f, 0}) == 5, "frequency");
}

// The word of token 3 at this position is 0xffffff9c: a noise of 17.6, and not the infinity of u rounded
// to 1.
TEST(sample_noise_near_one) {
  SampleBatch batch(8);
  SampleRowCase row;
  row.seedLo = 3;
  row.seedHi = 4;
  row.position = 1912781;
  row.logits = {0, -60, -60, -25, -60, -60, -60, -60};
  batch.rows.push_back(row);
  row.logits[3] = -10;
  batch.rows.push_back(row);
  const SampleResult got = sampleOnDevice(batch);
  CHECK(got.ids[0] == 0 && got.ids[1] == 3, "%d %d", got.ids[0], got.ids[1]);
}

TEST(sample_refuses_bad_shapes) {
  cuda::SampleCall call = {};
  call.args.vocab = 8;
  call.args.stride = 7;
  CHECK(cuda::sample(call, nullptr) != 0, "stride");
  call.args.stride = 8;
  call.args.rows = 2;
  call.maxRows = 1;
  CHECK(cuda::sample(call, nullptr) != 0, "rows");
  call.args.rows = 0;
  CHECK(cuda::sample(call, nullptr) == 0, "no rows");
}

}  // namespace
}  // namespace octavo::test
