#include "idefics2/error.h"

#include <utility>

#include "failures.h"

namespace idefics2 {
namespace {

std::string explain(const std::filesystem::path& path, std::error_code cause) {
  const bool is_absent = cause == std::errc::no_such_file_or_directory;
  return "cannot read " + path.string() + ": " + (is_absent ? "there is no such file" : cause.message());
}

}  // namespace

Error::Error(const std::string& message, Details details)
    : std::runtime_error(message), details_(std::make_shared<const Details>(std::move(details))) {}

const char* Error::code_name() const noexcept { return internal::name_code(details_->code); }

FileUnreadable::FileUnreadable(const std::filesystem::path& path, std::error_code cause)
    : InvalidRequest(explain(path, cause), {grpc::StatusCode::INVALID_ARGUMENT, "", "", "", {}, {}}), cause_(cause) {}

}  // namespace idefics2
