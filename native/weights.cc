#include "weights.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "check.h"

namespace octavo {

namespace {

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};
using HostBlock = std::unique_ptr<void, FreeMemory>;

// Everything that a load holds; what the backend keeps reading stays alive with the device.
struct Sources {
  std::vector<std::unique_ptr<MappedFile>> files;
  std::vector<HostBlock> kept;  // made-up tensors that are read in place
};

HostBlock makeDummy(const TensorSource& tensor, uint32_t seed) {
  HostBlock block(std::malloc(tensor.bytes()));
  if (!block)
    fail(code::kMemory, tensor.name, ": expected ", tensor.bytes(), " bytes for made-up weights, got none");
  fillDummy(tensor, seed, block.get());
  return block;
}

// Calls `visit` for every tensor of a linear.
template <typename Visit>
void eachTensor(const LinearPlan& linear, Visit visit) {
  for (const LinearPartPlan& part : linear.parts)
    for (const TensorSource* tensor : {&part.weight, &part.scales, &part.zeros, &part.bias})
      if (tensor->present) visit(*tensor);
}

size_t sourceBytes(const Program& program) {
  size_t bytes = 0;
  for (const DensePlan& dense : program.dense) bytes += dense.source.bytes();
  for (const LinearPlan& linear : program.linears)
    eachTensor(linear, [&](const TensorSource& tensor) { bytes += tensor.bytes(); });
  return bytes;
}

bool sameTensor(const TensorSource& a, const TensorSource& b) {
  if (a.file != b.file || a.dtype != b.dtype || a.rows() != b.rows() || a.cols() != b.cols()) return false;
  return a.file >= 0 ? a.offset == b.offset
                     : a.name == b.name && a.dummyMean == b.dummyMean && a.dummySpread == b.dummySpread;
}

// Index of the dense tensor that is this linear's whole weight, or -1.
int tiedTable(const Program& program, const LinearPlan& plan) {
  if (plan.scheme != LinearScheme::Dense || plan.parts.size() != 1) return -1;
  for (size_t i = 0; i < program.dense.size(); i++)
    if (sameTensor(program.dense[i].source, plan.parts[0].weight)) return static_cast<int>(i);
  return -1;
}

class WeightLoader {
 public:
  WeightLoader(Device& device, const Program& program, uint32_t seed, const Progress& progress)
      : device_(device), program_(program), seed_(seed), progress_(progress), total_(sourceBytes(program)) {}

  LoadedWeights load(const std::vector<std::string>& files) {
    for (const std::string& path : files) sources_->files.push_back(std::make_unique<MappedFile>(path));
    checkFiles();
    device_.keptMemory = sources_;
    LoadedWeights loaded;
    progress_(0, total_);
    for (const DensePlan& plan : program_.dense) loaded.dense.push_back(loadDense(plan));
    loaded.linears.resize(program_.linears.size());
    for (const size_t i : largestFirst()) {
      const LinearPlan& plan = program_.linears[i];
      const int table = tiedTable(program_, plan);
      loaded.linears[i] = loadLinear(plan, table < 0 ? nullptr : loaded.dense[table]);
    }
    // A read brings in the pages around it as well, those of tensors that were given back before it.
    for (const auto& file : sources_->files) file->discardAll();
    loaded.tables = keptTables();
    return loaded;
  }

 private:
  // All of them before the first byte is read: a truncated shard is found in milliseconds.
  void checkFiles() const {
    auto checkTensor = [&](const TensorSource& tensor) {
      if (tensor.file >= 0) sources_->files[tensor.file]->tensorData(tensor);
    };
    for (const DensePlan& plan : program_.dense) checkTensor(plan.source);
    for (const LinearPlan& plan : program_.linears) eachTensor(plan, checkTensor);
  }

  // Indices of linears. While one is repacked it is in memory twice: with the largest at first, when little
  // else is there, the peak of a load is hardly more than what stays.
  std::vector<size_t> largestFirst() const {
    std::vector<size_t> bytes(program_.linears.size()), order(program_.linears.size());
    for (size_t i = 0; i < order.size(); i++) {
      order[i] = i;
      eachTensor(program_.linears[i], [&](const TensorSource& tensor) { bytes[i] += tensor.bytes(); });
    }
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return bytes[a] > bytes[b]; });
    return order;
  }

  MappedTables keptTables() const {
    MappedTables tables;
    for (const DensePlan& plan : program_.dense)
      if (plan.keep && plan.source.file >= 0)
        tables.add(*sources_->files[plan.source.file], plan.source);
    return tables;
  }

  void advance(const TensorSource& tensor) { done_ += tensor.bytes(); }

  const Dense* loadDense(const DensePlan& plan) {
    const TensorSource& tensor = plan.source;
    HostBlock dummy = tensor.file < 0 ? makeDummy(tensor, seed_) : HostBlock();
    const void* data = dummy ? dummy.get() : sources_->files[tensor.file]->tensorData(tensor);
    const HostTensor host{data, tensor.dtype, tensor.rows(), tensor.cols()};
    const Dense* dense = device_.ops.loadDense(device_.context, &host, plan.keep ? 1 : 0);
    if (!dense) failTensor(plan.name, tensor.bytes());
    if (plan.keep && dummy) sources_->kept.push_back(std::move(dummy));
    if (!plan.keep && tensor.file >= 0) sources_->files[tensor.file]->discard(tensor);
    advance(tensor);
    progress_(done_, total_);
    return dense;
  }

  const Linear* loadLinear(const LinearPlan& plan, const Dense* table) {
    std::vector<HostBlock> dummies;
    eachTensor(plan, [&](const TensorSource& tensor) {
      if (tensor.file >= 0) sources_->files[tensor.file]->prefetch(tensor);
    });
    LinearSource source = toLinearSource(plan, [&](const TensorSource& tensor) -> const void* {
      if (tensor.file >= 0) return sources_->files[tensor.file]->tensorData(tensor);
      dummies.push_back(makeDummy(tensor, seed_));
      return dummies.back().get();
    });
    source.table = table;
    const Linear* linear = device_.ops.loadLinear(device_.context, &source);
    if (!linear) failTensor(plan.name, device_.ops.linearBytes(&source));
    eachTensor(plan, [&](const TensorSource& tensor) {
      if (tensor.file >= 0) sources_->files[tensor.file]->discard(tensor);
      advance(tensor);
    });
    progress_(done_, total_);
    return linear;
  }

  [[noreturn]] void failTensor(const std::string& name, size_t bytes) const {
    fail(code::kMemory, name, ": expected ", bytes, " bytes of ", device_.ops.name,
         " memory: ", device_.lastError());
  }

  Device& device_;
  const Program& program_;
  const uint32_t seed_;
  const Progress& progress_;
  const size_t total_;
  size_t done_ = 0;
  std::shared_ptr<Sources> sources_ = std::make_shared<Sources>();
};

}  // namespace

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) fail(code::kFile, path, ": ", std::strerror(errno));
  struct stat status {};
  std::string reason;
  if (fstat(file, &status) != 0) {
    reason = std::strerror(errno);
  } else if (!S_ISREG(status.st_mode)) {
    reason = "expected a regular file";
  } else if (status.st_size > 0) {  // an empty file has no mapping and no tensor fits in it
    size_ = static_cast<size_t>(status.st_size);
    void* mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file, 0);
    if (mapped == MAP_FAILED) reason = std::strerror(errno);
    data_ = mapped == MAP_FAILED ? nullptr : static_cast<char*>(mapped);
  }
  close(file);
  if (!reason.empty()) fail(code::kFile, path, ": ", reason);
}

MappedFile::~MappedFile() {
  if (data_) munmap(data_, size_);
}

const char* MappedFile::tensorData(const TensorSource& tensor) const {
  // validateTensor() has seen to it that offset + bytes does not overflow.
  const size_t offset = static_cast<size_t>(tensor.offset), bytes = tensor.bytes();
  if (offset + bytes > size_)
    fail(code::kFile, path_, ": tensor ", tensor.name, " expected bytes [", offset, ", ", offset + bytes,
         "), got a file of ", size_);
  return data_ + offset;
}

void MappedFile::advise(const TensorSource& tensor, int advice, bool wholePagesOnly) const {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t first = static_cast<size_t>(tensor.offset), last = first + tensor.bytes();
  const size_t begin = (wholePagesOnly ? first + page - 1 : first) / page * page;
  const size_t end = wholePagesOnly ? last / page * page : last;
  if (end > begin) madvise(data_ + begin, end - begin, advice);
}

void MappedFile::prefetch(const TensorSource& tensor) const {
  advise(tensor, MADV_WILLNEED, false);
}

// The pages at the edges may hold a neighbour that is read in place, and cost nothing to leave.
void MappedFile::discard(const TensorSource& tensor) const {
  advise(tensor, MADV_DONTNEED, true);
}

void MappedFile::discardAll() const {
  if (data_) madvise(data_, size_, MADV_DONTNEED);
}

void MappedTables::add(const MappedFile& file, const TensorSource& tensor) {
  tables_.push_back({&file, tensor});
}

void MappedTables::noteReads(int32_t rows) {
  rowsRead_ += rows;
  if (rowsRead_ < kMostRows) return;
  rowsRead_ = 0;
  for (const Table& table : tables_) table.file->discard(table.tensor);
}

LoadedWeights loadWeights(Device& device, const Program& program, const std::vector<std::string>& files,
                          uint32_t dummySeed, const Progress& progress) {
  return WeightLoader(device, program, dummySeed, progress).load(files);
}

size_t weightBytes(const Ops& ops, const Program& program) {
  static const char kPresent = 0;  // sizes depend on which tensors there are, never on their bytes
  const auto* table = reinterpret_cast<const Dense*>(&kPresent);
  size_t bytes = 0;
  for (const DensePlan& plan : program.dense) {
    const HostTensor source{&kPresent, plan.source.dtype, plan.source.rows(), plan.source.cols()};
    bytes += ops.denseBytes(&source, plan.keep ? 1 : 0);
  }
  for (const LinearPlan& plan : program.linears) {
    LinearSource source = toLinearSource(plan, [](const TensorSource&) -> const void* { return &kPresent; });
    if (tiedTable(program, plan) >= 0) source.table = table;
    bytes += ops.linearBytes(&source);
  }
  return bytes;
}

}  // namespace octavo
