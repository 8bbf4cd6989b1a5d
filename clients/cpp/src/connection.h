#pragma once

#include <grpcpp/channel.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "idefics2/options.h"
#include "idefics2/v1/files.grpc.pb.h"
#include "idefics2/v1/generation.grpc.pb.h"
#include "idefics2/v1/requests.grpc.pb.h"

namespace idefics2::internal {

/// The channel to one service, and what holds for all calls over it.
struct Connection {
  /// Fails with SettingInvalid or AuthenticationFailed.
  explicit Connection(const Options& options);

  std::string target;  // host:port
  std::string key;
  std::optional<std::chrono::milliseconds> timeout;
  Retries retries;
  std::unique_ptr<v1::GenerationService::Stub> generation;
  std::unique_ptr<v1::RequestService::Stub> requests;
  std::unique_ptr<v1::FileService::Stub> files;
};

}  // namespace idefics2::internal
