#pragma once

#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>

#include "digest.h"
#include "idefics2/client.h"
#include "operation.h"

namespace idefics2::internal {

/// Says which file is meant: by its id, by its URL, or by `sha256:` and its digest.
template <class Question>
Question name_file(const std::string& file) {
  constexpr char kUrl[] = "idefics2://files/";
  constexpr char kDigest[] = "sha256:";
  const auto drop = [&file](const char* prefix) { return file.substr(std::char_traits<char>::length(prefix)); };
  Question question;
  if (file.rfind(kDigest, 0) == 0) {
    question.set_sha256(drop(kDigest));
  } else {
    question.set_id(file.rfind(kUrl, 0) == 0 ? drop(kUrl) : file);
  }
  return question;
}

/// What has come of one file, and so what to ask for next.
class Download {
 public:
  Download(std::shared_ptr<Operation> operation, const std::string& file, OnProgress on_progress);

  /// Writes the file to `path`, where it appears when it is complete.
  File to(const std::filesystem::path& path);

 private:
  void run();
  void read();
  void write(const std::string& chunk);
  void check();

  std::shared_ptr<Operation> operation_;
  v1::DownloadFileRequest question_;
  OnProgress on_progress_;
  std::filesystem::path path_;  // for messages
  std::ofstream out_;
  Digest digest_;
  std::optional<File> file_;  // none: the service has said nothing yet
};

}  // namespace idefics2::internal
