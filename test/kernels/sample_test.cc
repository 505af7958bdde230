// The sampler: the cpu backend against the reference's full sort, the documented order of steps by hand
// and corner cases. The distribution of draws is in sample_distribution_test.cc.
#include <algorithm>

#include "../../kernels/philox.h"
#include "harness.h"

using namespace octavo;
using test::Backend;

namespace {

constexpr int kContext = 64, kSlots = 4;

struct Row {
  float temperature = 1, topP = 1, minP = 0, repetition = 1, presence = 0, frequency = 0;
  int32_t topK = 0, seedLo = 1, seedHi = 2, targetId = -1, numTop = -1, slot = 0, position = 20;
  std::vector<std::pair<int32_t, float>> bias;
  std::vector<uint32_t> mask;
  std::vector<float> logits;
};

struct Result {
  std::vector<int32_t> ids, rank, targetRank, topIds;
  std::vector<float> logprob, targetLogprob, topLogprobs;
};

struct Batch {
  int32_t vocab;
  std::vector<Row> rows;
  std::vector<int32_t> history;  // [kSlots, kContext]
  std::vector<int32_t> numPrompt = {10, 21, 30, 0};

  explicit Batch(int32_t size) : vocab(size), history(kSlots * kContext, 0) {}
};

OpenOptions optionsFor(int32_t vocab, int threads = 2) {
  OpenOptions options = test::smallOptions(threads);
  options.vocabSize = vocab;
  options.maxContext = kContext;
  return options;
}

// A column of the batch as an array.
template <class T>
std::vector<T> column(const Batch& batch, T Row::*field) {
  std::vector<T> values;
  for (const Row& row : batch.rows) values.push_back(row.*field);
  return values;
}

Result run(Backend& backend, const Batch& batch) {
  const size_t n = batch.rows.size(), stride = static_cast<size_t>(batch.vocab) + 3;
  const size_t words = (static_cast<size_t>(batch.vocab) + 31) / 32;
  std::vector<float> logits(n * stride, test::kPoison), biasValue;
  std::vector<int32_t> biasStart{0}, biasId, maskRow;
  std::vector<uint32_t> masks;
  for (size_t i = 0; i < n; ++i) {
    const Row& row = batch.rows[i];
    std::copy(row.logits.begin(), row.logits.end(), logits.begin() + static_cast<int64_t>(i * stride));
    for (const auto& [id, value] : row.bias) {
      biasId.push_back(id);
      biasValue.push_back(value);
    }
    biasStart.push_back(static_cast<int32_t>(biasId.size()));
    maskRow.push_back(row.mask.empty() ? -1 : static_cast<int32_t>(masks.size() / words));
    masks.insert(masks.end(), row.mask.begin(), row.mask.end());
  }
  const auto slots = column(batch, &Row::slot), positions = column(batch, &Row::position);
  const auto temperature = column(batch, &Row::temperature), topP = column(batch, &Row::topP);
  const auto minP = column(batch, &Row::minP), repetition = column(batch, &Row::repetition);
  const auto presence = column(batch, &Row::presence), frequency = column(batch, &Row::frequency);
  const auto topK = column(batch, &Row::topK), seedLo = column(batch, &Row::seedLo);
  const auto seedHi = column(batch, &Row::seedHi), targetId = column(batch, &Row::targetId);
  const auto numTop = column(batch, &Row::numTop);
  Result result;
  result.ids.assign(n, -7);
  result.rank = result.targetRank = result.ids;
  result.logprob.assign(n, -7);
  result.targetLogprob = result.logprob;
  result.topIds.assign(n * kMaxLogprobs, -7);
  result.topLogprobs.assign(n * kMaxLogprobs, -7);
  const SampleArgs args{nullptr,
                        logits.data(),
                        static_cast<int64_t>(stride),
                        static_cast<int32_t>(n),
                        batch.vocab,
                        slots.data(),
                        positions.data(),
                        temperature.data(),
                        topP.data(),
                        minP.data(),
                        repetition.data(),
                        presence.data(),
                        frequency.data(),
                        topK.data(),
                        seedLo.data(),
                        seedHi.data(),
                        targetId.data(),
                        numTop.data(),
                        biasStart.data(),
                        biasId.data(),
                        biasValue.data(),
                        maskRow.data(),
                        masks.data(),
                        batch.history.data(),
                        batch.numPrompt.data(),
                        kContext,
                        result.ids.data(),
                        result.logprob.data(),
                        result.targetLogprob.data(),
                        result.rank.data(),
                        result.targetRank.data(),
                        result.topIds.data(),
                        result.topLogprobs.data(),
                        nullptr};
  CHECK(backend.ops->sample(backend.context, &args) == 0, "%s", backend.ops->lastError(backend.context));
  return result;
}

bool close(float a, float b) {
  return a == b || std::fabs(a - b) < 1e-5f * (1 + std::fabs(b));
}

// Sampled ids may differ where float ties: none do with these logits and seeds.
void compare(const Batch& batch, const char* what) {
  Backend reference(referenceOps(), optionsFor(batch.vocab));
  const Result want = run(reference, batch);
  test::forEachIsa([&](const std::string& isa) {
    Backend cpu(cpuOps(), optionsFor(batch.vocab));
    const Result got = run(cpu, batch);
    for (size_t i = 0; i < batch.rows.size(); ++i) {
      const auto row = static_cast<int>(i);
      CHECK(got.ids[i] == want.ids[i], "%s %s vocab %d row %d: %d, not %d", isa.c_str(), what, batch.vocab,
            row, got.ids[i], want.ids[i]);
      CHECK(got.rank[i] == want.rank[i] && got.targetRank[i] == want.targetRank[i],
            "%s %s row %d: rank %d %d", isa.c_str(), what, row, got.rank[i], want.rank[i]);
      CHECK(close(got.logprob[i], want.logprob[i]), "%s %s row %d: %g %g", isa.c_str(), what, row,
            got.logprob[i], want.logprob[i]);
      CHECK(close(got.targetLogprob[i], want.targetLogprob[i]), "%s %s row %d", isa.c_str(), what, row);
    }
    CHECK(got.topIds == want.topIds, "%s %s vocab %d: top ids", isa.c_str(), what, batch.vocab);
    for (size_t i = 0; i < got.topLogprobs.size(); ++i)
      CHECK(close(got.topLogprobs[i], want.topLogprobs[i]), "%s %s: top log-probability %zu: %g %g",
            isa.c_str(), what, i, got.topLogprobs[i], want.topLogprobs[i]);
  });
}

std::vector<float> gaussian(std::mt19937& random, int32_t count, float spread) {
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

// Rows that between them use every parameter, alone and together.
void addRows(Batch& batch, std::mt19937& random, float spread) {
  std::vector<Row> rows(14);
  rows[0].temperature = 0;
  rows[1].temperature = 0.7f;
  rows[2].topP = 0.9f;
  rows[3].topK = 5;
  rows[4].minP = 0.05f;
  rows[5].repetition = 1.5f;
  rows[6].presence = 0.8f;
  rows[7].frequency = 0.5f;
  rows[8].bias = {{0, 3.0f}, {batch.vocab - 1, -INFINITY}, {batch.vocab / 2, 2.0f}};
  rows[9].topP = 0.1f;
  rows[10].topK = 40;
  rows[10].topP = 0.5f;
  rows[10].minP = 0.01f;
  rows[11].temperature = 0;
  rows[11].repetition = 1.2f;
  rows[11].frequency = -0.5f;
  rows[12].topK = 1;
  rows[13].temperature = 1.9f;
  rows[13].topP = 0.99f;
  for (size_t i = 0; i < rows.size(); ++i) {
    Row& row = rows[i];
    row.seedLo = static_cast<int32_t>(random());
    row.seedHi = static_cast<int32_t>(random());
    row.slot = static_cast<int32_t>(i % kSlots);
    row.position = static_cast<int32_t>(random() % kContext);
    row.numTop =
        static_cast<int32_t>(i) * 2 - 2 > kMaxLogprobs ? kMaxLogprobs : static_cast<int32_t>(i) * 2 - 2;
    row.numTop = std::max(row.numTop, -1);
    row.targetId = i % 3 == 0 ? static_cast<int32_t>(random() % static_cast<uint32_t>(batch.vocab)) : -1;
    if (i % 5 == 4) {
      for (int32_t word = 0; word < (batch.vocab + 31) / 32; ++word)
        row.mask.push_back(static_cast<uint32_t>(random()));
      row.mask[0] |= 1;
    }
    row.logits = gaussian(random, batch.vocab, spread);
    batch.rows.push_back(row);
  }
  for (int32_t& token : batch.history)
    token = static_cast<int32_t>(random() % std::min<uint32_t>(20, static_cast<uint32_t>(batch.vocab)));
}

// One row on one backend.
int32_t sampleOne(Backend& backend, int32_t vocab, const Row& row) {
  Batch batch(vocab);
  batch.rows.push_back(row);
  return run(backend, batch).ids[0];
}

}  // namespace

TEST(philox_known_answers) {
  // From Random123's kat_vectors.
  const PhiloxWords zero = philox(0, 0, 0, 0, 0, 0);
  CHECK(zero.word[0] == 0x6627e8d5u && zero.word[1] == 0xe169c58du && zero.word[2] == 0xbc57ac4cu &&
            zero.word[3] == 0x9b00dbd8u,
        "zeros: %08x", zero.word[0]);
  const PhiloxWords pi = philox(0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u, 0xa4093822u, 0x299f31d0u);
  CHECK(pi.word[0] == 0xd16cfe09u && pi.word[1] == 0x94fdccebu && pi.word[2] == 0x5001e420u &&
            pi.word[3] == 0x24126ea1u,
        "pi: %08x", pi.word[0]);
  CHECK(std::isfinite(gumbelNoise(0)) && std::isfinite(gumbelNoise(0xffffffffu)), "noise at the ends");
}

TEST(sample_cpu_against_reference) {
  std::mt19937 random(21);
  for (int32_t vocab : {1, 7, 512, 32003})
    for (float spread : {0.01f, 1.0f, 5.0f})
      for (int i = 0; i < (vocab < 1000 ? 20 : 2); ++i) {
        Batch batch(vocab);
        addRows(batch, random, spread);
        compare(batch, "random");
      }
}

TEST(sample_large_vocabulary) {
  std::mt19937 random(22);
  Batch batch(128256);
  addRows(batch, random, 3);
  compare(batch, "large");
}

// Logits with few distinct values: every cut falls among ties, which go to the lowest ids.
TEST(sample_ties) {
  std::mt19937 random(23);
  for (int32_t vocab : {7, 512})
    for (int i = 0; i < 20; ++i) {
      Batch batch(vocab);
      addRows(batch, random, 1);
      for (Row& row : batch.rows) {
        for (float& x : row.logits) x = std::floor(x);
        row.repetition = 1;  // x / 1.2 in f32 and in double may order ties differently
      }
      compare(batch, "ties");
    }
}

TEST(sample_strange_logits) {
  std::mt19937 random(24);
  const float inf = INFINITY, nan = NAN;
  for (int32_t vocab : {7, 512}) {
    Batch batch(vocab);
    addRows(batch, random, 2);
    for (Row& row : batch.rows) {
      row.repetition = 1;
      for (int i = 0; i < vocab / 3; ++i)
        row.logits[random() % row.logits.size()] =
            std::vector<float>{nan, -inf, -nan, 1e30f, -1e30f}[random() % 5];
    }
    compare(batch, "strange");
    for (float value : {nan, -inf, inf}) {
      Batch same(vocab);
      same.rows = batch.rows;
      for (Row& row : same.rows) std::fill(row.logits.begin(), row.logits.end(), value);
      compare(same, "all the same");
    }
  }
}

// What the comments promise, for both backends.
TEST(sample_corner_cases_by_hand) {
  for (const Ops* ops : {referenceOps(), cpuOps()}) {
    Backend backend(ops, optionsFor(40));
    Row row;
    row.logits.assign(40, 0.0f);
    row.temperature = 0;
    CHECK(sampleOne(backend, 40, row) == 0, "%s: ties go to the lowest id", ops->name);
    row.logits[3] = row.logits[9] = 1;
    CHECK(sampleOne(backend, 40, row) == 3, "%s: argmax", ops->name);
    row.bias = {{3, -0.5f}};
    CHECK(sampleOne(backend, 40, row) == 9, "%s: bias", ops->name);
    row.bias = {};
    row.mask = {0xffffffffu & ~(1u << 3), 1};
    CHECK(sampleOne(backend, 40, row) == 9, "%s: mask", ops->name);
    row.mask = {0, 4};
    CHECK(sampleOne(backend, 40, row) == 34, "%s: mask of one", ops->name);
    row.mask = {0, 6};
    row.bias = {{33, -INFINITY}};
    std::fill(row.logits.begin(), row.logits.end(), NAN);
    for (float temperature : {0.0f, 1.0f}) {
      row.temperature = temperature;
      CHECK(sampleOne(backend, 40, row) == 34, "%s: nothing but NaN: the lowest that is allowed", ops->name);
    }
    row.bias = {{33, -INFINITY}, {34, -INFINITY}};
    CHECK(sampleOne(backend, 40, row) == 33, "%s: everything banned: the lowest of the mask", ops->name);
    row.mask = {0, 0};
    CHECK(sampleOne(backend, 40, row) == 0, "%s: nothing allowed", ops->name);
  }
}

// Penalties over prompt and output, at temperature 0: logits chosen so that each decides.
TEST(sample_penalties_by_hand) {
  for (const Ops* ops : {referenceOps(), cpuOps()}) {
    Backend backend(ops, optionsFor(8));
    Batch batch(8);
    batch.numPrompt[0] = 2;
    const int32_t context[] = {1, 2, 3, 3};  // prompt 1 2, output 3 3; beyond the position: token 4
    std::fill(batch.history.begin(), batch.history.end(), 4);
    std::copy(context, context + 4, batch.history.begin());
    const auto pick = [&](std::vector<float> logits, float repetition, float presence, float frequency) {
      Row row;
      row.temperature = 0;
      row.position = 3;
      row.logits = std::move(logits);
      row.repetition = repetition;
      row.presence = presence;
      row.frequency = frequency;
      batch.rows = {row};
      return run(backend, batch).ids[0];
    };
    CHECK(pick({0, 2, 0, 0, 1.5f, 0, 0, 0}, 2, 0, 0) == 4, "%s: repetition covers the prompt", ops->name);
    CHECK(pick({0, 0, 0, 2, 1.5f, 0, 0, 0}, 2, 0, 0) == 4, "%s: repetition covers the output", ops->name);
    CHECK(pick({-9, -2, -9, -9, -3, -9, -9, -9}, 2, 0, 0) == 4, "%s: a negative logit is multiplied",
          ops->name);
    CHECK(pick({0, 2, 0, 0, 1.5f, 0, 0, 0}, 1, 1, 1) == 1, "%s: presence and frequency spare the prompt",
          ops->name);
    CHECK(pick({0, 0, 0, 2, 1.5f, 0, 0, 0}, 1, 0.4f, 0) == 3, "%s: presence counts once", ops->name);
    CHECK(pick({0, 0, 0, 2, 1.5f, 0, 0, 0}, 1, 0, 0.3f) == 4, "%s: frequency counts twice", ops->name);
  }
}

// A row's draw does not change with its batch or the number of threads, and repeats.
TEST(sample_row_is_independent_of_its_batch) {
  std::mt19937 random(25);
  Batch batch(32003);
  addRows(batch, random, 2);
  test::forEachIsa([&](const std::string& isa) {
    Backend one(cpuOps(), optionsFor(batch.vocab, 1)), three(cpuOps(), optionsFor(batch.vocab, 3));
    const Result whole = run(three, batch), again = run(three, batch);
    CHECK(whole.ids == again.ids &&
              test::sameBits(whole.logprob.data(), again.logprob.data(), whole.ids.size()),
          "%s: repeats", isa.c_str());
    for (size_t i = 0; i < batch.rows.size(); ++i) {
      Batch alone(batch.vocab);
      alone.history = batch.history;
      alone.rows = {batch.rows[i]};
      const Result result = run(one, alone);
      CHECK(result.ids[0] == whole.ids[i] && test::sameBits(&result.logprob[0], &whole.logprob[i], 1),
            "%s: row %d alone", isa.c_str(), static_cast<int>(i));
    }
  });
}
