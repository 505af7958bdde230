// Weights: files are mapped read-only, each tensor's bytes are checked against its file, and the backend
// repacks them one layer at a time. Made-up weights (file -1) are generated instead, so that any shape can be
// run without a file.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend.h"
#include "program.h"

namespace octavo {

// Called with (bytes of sources done, bytes of all sources).
using Progress = std::function<void(size_t, size_t)>;

// A read-only mapping of a whole file.
class MappedFile {
 public:
  // Throws ERR_OCTAVO_FILE with the path and the system's reason.
  explicit MappedFile(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // The bytes of `tensor`; throws ERR_OCTAVO_FILE where they do not lie inside the file.
  const char* tensorData(const TensorSource& tensor) const;
  // Asks the system to read these bytes ahead: repacking walks them in an order that its own read-ahead may
  // not guess.
  void prefetch(const TensorSource& tensor) const;
  // Tells the system that these bytes were read for the last time, so that they leave this process's resident
  // set. Bytes that are read again after all come back from the page cache.
  void discard(const TensorSource& tensor) const;
  // The same for the whole file.
  void discardAll() const;

 private:
  // Advice for the pages of a tensor: all that it touches, or only those that it has to itself.
  void advise(const TensorSource& tensor, int advice, bool wholePagesOnly) const;

  std::string path_;
  char* data_ = nullptr;
  size_t size_ = 0;
};

// Tables that a backend reads in place, a few rows a step: embeddings. Each row brings the 64 KiB around it
// into the resident set, so that after some thousand tokens the whole table would stay there.
class MappedTables {
 public:
  // `file` must outlive the tables.
  void add(const MappedFile& file, const TensorSource& tensor);
  // Of `rows` rows that are wanted, how many to read before noteReads().
  int32_t rowsAtOnce(int32_t rows) const { return tables_.empty() ? rows : std::min(rows, kMostRows); }
  // `rows` rows of each were read: every now and then all pages are given back, to be found in the page cache
  // again. No read may be going on.
  void noteReads(int32_t rows);

 private:
  static constexpr int32_t kMostRows = 128;  // between two times; Linux brings in 16 pages for each
  struct Table {
    const MappedFile* file;
    TensorSource tensor;
  };
  std::vector<Table> tables_;
  int64_t rowsRead_ = 0;
};

struct LoadedWeights {
  std::vector<const Dense*> dense;     // one per Program::dense
  std::vector<const Linear*> linears;  // one per Program::linears
  MappedTables tables;                 // their files hang on device.keptMemory
};

// Loads everything that `program` names into `device`. Host memory that the backend keeps reading (an
// embedding) is hung on device.keptMemory. Throws ERR_OCTAVO_FILE, ERR_OCTAVO_MEMORY or ERR_OCTAVO_DEVICE.
LoadedWeights loadWeights(Device& device, const Program& program, const std::vector<std::string>& files,
                          uint32_t dummySeed, const Progress& progress);

// Device bytes of the program's weights on a backend, files untouched.
size_t weightBytes(const Ops& ops, const Program& program);

// Fills `data` with the made-up values of `tensor`: a function of (seed, name) alone, whatever the number of
// threads.
void fillDummy(const TensorSource& tensor, uint32_t seed, void* data);

}  // namespace octavo
