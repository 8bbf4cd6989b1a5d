#pragma once

#include <filesystem>
#include <string>

namespace fakes {

/// A certificate that vouches for itself, and its key, as PEM.
struct Certificate {
  std::string certificate;
  std::string key;

  /// Makes one of 127.0.0.1, or of another address.
  static Certificate make(const std::string& address = "127.0.0.1");
};

/// A folder of files, until it goes out of scope.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  /// Writes a file, and returns where it is.
  std::filesystem::path write(const std::string& name, const std::string& text) const;

 private:
  std::filesystem::path path_;
};

}  // namespace fakes
