// Attention over paged keys and values: the cpu backend against the reference, and a row's result bitwise the
// same however its sequence is chunked and batched. Every page that must not be read is NaN.
#include <algorithm>

#include "harness.h"

using namespace octavo;
using test::Backend;

namespace {

struct Shape {
  int heads, kvHeads, headDim, window;
  float softcap;
  DType kv;
};

// Sequences with keys and values of their own, in pages dealt at random.
struct World {
  Shape shape;
  std::vector<int> lengths;
  std::vector<int32_t> tables;  // [sequences, blocks]
  int32_t blocksPerSeq = 0;
  std::vector<std::vector<float>> queries;  // by sequence [length, heads * headDim]
  std::vector<unsigned char> pages;

  KvLayer layer() { return {pages.data(), shape.kvHeads, shape.headDim}; }
};

void fillSequence(World& w, size_t s, Backend& backend, std::mt19937& random) {
  const Shape& shape = w.shape;
  std::vector<int32_t> slots;
  for (int position = 0; position < w.lengths[s]; ++position) {
    // Blocks wholly before the window of the last token keep their NaN.
    const bool dead =
        shape.window > 0 && (position / kBlockSize + 1) * kBlockSize <= w.lengths[s] - 1 - shape.window + 1;
    if (dead) continue;
    const int32_t block =
        w.tables[s * static_cast<size_t>(w.blocksPerSeq) + static_cast<size_t>(position / kBlockSize)];
    slots.push_back(block * kBlockSize + position % kBlockSize);
  }
  const int64_t width = (1 + 2 * shape.kvHeads) * shape.headDim;
  auto qkv = test::randomFloats(random, slots.size() * static_cast<size_t>(width), 2);
  RopeStoreKvArgs args{};
  args.qkv = {qkv.data(), width};
  args.rows = static_cast<int32_t>(slots.size());
  args.positions = slots.data();  // unused: without angles
  args.slotMapping = slots.data();
  args.numHeads = 1;
  args.numKvHeads = shape.kvHeads;
  args.headDim = shape.headDim;
  args.kv = w.layer();
  CHECK(backend.ops->ropeStoreKv(backend.context, &args) == 0, "store");
}

World makeWorld(const Shape& shape, const std::vector<int>& lengths, std::mt19937& random) {
  World w{shape, lengths, {}, 0, {}, {}};
  for (int length : lengths)
    w.blocksPerSeq = std::max(w.blocksPerSeq, (length + kBlockSize - 1) / kBlockSize);
  std::vector<int32_t> free;
  const int32_t blocks = w.blocksPerSeq * static_cast<int32_t>(lengths.size()) + 1;
  for (int32_t i = 0; i < blocks; ++i) free.push_back(i);
  std::shuffle(free.begin(), free.end(), random);
  w.tables.assign(free.begin(), free.end() - 1);
  // All bits set: NaN, as f32, as f16 and as a scale.
  w.pages.assign(static_cast<size_t>(blocks * 2 * shape.kvHeads) * kvHeadBytes(shape.kv, shape.headDim),
                 0xff);
  Backend reference(referenceOps(), test::smallOptions());
  CHECK(reference.ops->setKvDType(reference.context, shape.kv) == 0, "kv type");
  for (size_t s = 0; s < lengths.size(); ++s) {
    w.queries.push_back(
        test::randomFloats(random, static_cast<size_t>(lengths[s] * shape.heads * shape.headDim)));
    fillSequence(w, s, reference, random);
  }
  return w;
}

struct Slice {
  size_t sequence;
  int first, count;  // rows: positions [first, first + count)
};

// Runs the slices as one batch; results [rows of all slices, heads * headDim].
std::vector<float> attend(Backend& backend, World& w, const std::vector<Slice>& slices) {
  const Shape& shape = w.shape;
  const int64_t width = shape.heads * shape.headDim, stride = width + 7;
  std::vector<int32_t> start{0}, lens, tables;
  std::vector<float> q;
  for (const Slice& slice : slices) {
    start.push_back(start.back() + slice.count);
    lens.push_back(slice.first + slice.count);
    const auto table = w.tables.begin() + static_cast<int64_t>(slice.sequence) * w.blocksPerSeq;
    tables.insert(tables.end(), table, table + w.blocksPerSeq);
    for (int i = 0; i < slice.count; ++i) {
      const auto row = w.queries[slice.sequence].begin() + (slice.first + i) * width;
      q.insert(q.end(), row, row + width);
      q.insert(q.end(), 7, test::kPoison);
    }
  }
  std::vector<float> out(q.size(), test::kPoison);
  AttentionArgs args{};
  args.q = {q.data(), stride};
  args.out = {out.data(), stride};
  args.rows = start.back();
  args.numSeqs = static_cast<int32_t>(slices.size());
  args.queryStart = start.data();
  args.contextLens = lens.data();
  args.blockTables = tables.data();
  args.maxBlocksPerSeq = w.blocksPerSeq;
  args.numHeads = shape.heads;
  args.numKvHeads = shape.kvHeads;
  args.headDim = shape.headDim;
  args.scale = 1.0f / std::sqrt(static_cast<float>(shape.headDim));
  args.slidingWindow = shape.window;
  args.softcap = shape.softcap;
  args.kv = w.layer();
  CHECK(backend.ops->attention(backend.context, &args) == 0, "%s", backend.ops->lastError(backend.context));
  std::vector<float> result;
  for (int32_t r = 0; r < args.rows; ++r) {
    result.insert(result.end(), out.begin() + r * stride, out.begin() + r * stride + width);
    for (int64_t i = width; i < stride; ++i)
      CHECK(std::isnan(out[static_cast<size_t>(r * stride + i)]), "padding");
  }
  return result;
}

void compare(const std::string& isa, const Shape& shape, const std::vector<int>& lengths,
             const std::vector<Slice>& slices, std::mt19937& random) {
  World w = makeWorld(shape, lengths, random);
  Backend cpu(cpuOps(), test::smallOptions(2)), reference(referenceOps(), test::smallOptions());
  CHECK(cpu.ops->setKvDType(cpu.context, shape.kv) == 0, "kv type");
  CHECK(reference.ops->setKvDType(reference.context, shape.kv) == 0, "kv type");
  const double error = test::relativeError(attend(cpu, w, slices), attend(reference, w, slices));
  CHECK(error < 1e-5, "%s heads %d/%d dim %d window %d kv %d first length %d: error %.2e", isa.c_str(),
        shape.heads, shape.kvHeads, shape.headDim, shape.window, static_cast<int>(shape.kv), lengths[0],
        error);
}

}  // namespace

TEST(attention_head_dims_and_groups) {
  test::forEachIsa([](const std::string& isa) {
    std::mt19937 random(3);
    for (int headDim : {8, 16, 20, 32, 64, 80, 96, 128, 256})
      for (int group : {1, 4, 7})
        for (DType kv : {DType::F32, DType::F16, DType::I8}) {
          const Shape shape{2 * group, 2, headDim, 0, 0, kv};
          compare(isa, shape, {37, 5, 64}, {{0, 30, 7}, {1, 0, 5}, {2, 63, 1}}, random);
        }
    compare(isa, {40, 2, 16, 0, 0, DType::F32}, {50}, {{0, 47, 3}}, random);
    compare(isa, {4, 2, 32, 0, 30.0f, DType::F32}, {50}, {{0, 40, 10}}, random);
  });
}

TEST(attention_context_lengths) {
  test::forEachIsa([](const std::string& isa) {
    std::mt19937 random(4);
    for (int length : {1, 15, 16, 17, 511, 512, 513, 1000, 1537}) {
      compare(isa, {4, 2, 32, 0, 0, DType::F32}, {length}, {{0, length - 1, 1}}, random);
      const int count = std::min(length, 40);
      compare(isa, {4, 2, 20, 0, 0, DType::F16}, {length}, {{0, length - count, count}}, random);
      compare(isa, {4, 2, 32, 0, 0, DType::I8}, {length}, {{0, length - count, count}}, random);
    }
  });
}

TEST(attention_windows) {
  test::forEachIsa([](const std::string& isa) {
    std::mt19937 random(5);
    for (int window : {1, 5, 16, 100, 512, 600, 5000})
      for (int length : {1, 16, 17, 300, 1030}) {
        // One row: everything before its window is NaN, whole blocks of it.
        compare(isa, {4, 2, 16, window, 0, DType::F32}, {length}, {{0, length - 1, 1}}, random);
        compare(isa, {4, 2, 24, window, 0, DType::F16}, {length}, {{0, length - 1, 1}}, random);
        compare(isa, {4, 2, 32, window, 0, DType::I8}, {length}, {{0, length - 1, 1}}, random);
      }
  });
}

// Rows of a chunk with windows: positions that one row of a tile sees and another does not.
TEST(attention_windows_in_chunks) {
  test::forEachIsa([](const std::string& isa) {
    std::mt19937 random(6);
    const Shape shape{4, 2, 16, 20, 0, DType::F32};
    World w = makeWorld({4, 2, 16, 0, 0, DType::F32}, {600}, random);  // all positions alive
    w.shape = shape;
    Backend cpu(cpuOps(), test::smallOptions(2)), reference(referenceOps(), test::smallOptions());
    const double error =
        test::relativeError(attend(cpu, w, {{0, 470, 100}}), attend(reference, w, {{0, 470, 100}}));
    CHECK(error < 1e-5, "%s: error %.2e", isa.c_str(), error);
  });
}

// Each row alone, against any chunking, batch and number of threads: the same bits.
TEST(attention_row_is_independent_of_its_batch) {
  test::forEachIsa([](const std::string& isa) {
    std::mt19937 random(8);
    for (int headDim : {20, 64})
      for (int window : {0, 70})
        for (DType kv : {DType::F32, DType::F16, DType::I8}) {
          World w = makeWorld({6, 2, headDim, 0, 0, kv}, {530, 40, 17}, random);
          w.shape.window = window;
          const size_t width = static_cast<size_t>(6 * headDim);
          Backend one(cpuOps(), test::smallOptions(1)), many(cpuOps(), test::smallOptions(3));
          for (Backend* backend : {&one, &many}) backend->ops->setKvDType(backend->context, kv);
          const auto whole = attend(one, w, {{0, 0, 530}});
          for (int position : {0, 1, 15, 16, 100, 511, 512, 529}) {
            const auto row = attend(many, w, {{0, position, 1}});
            CHECK(test::sameBits(row.data(), &whole[static_cast<size_t>(position) * width], width),
                  "%s dim %d window %d: position %d alone", isa.c_str(), headDim, window, position);
          }
          for (int chunk : {3, 16, 33}) {
            for (int first : {0, 500}) {
              const int count = std::min(chunk, 530 - first);
              const auto batch = attend(many, w, {{1, 39, 1}, {0, first, count}, {2, 0, 17}});
              CHECK(test::sameBits(&batch[width], &whole[static_cast<size_t>(first) * width],
                                   width * static_cast<size_t>(count)),
                    "%s dim %d window %d: chunk of %d from %d", isa.c_str(), headDim, window, count, first);
            }
          }
        }
  });
}
