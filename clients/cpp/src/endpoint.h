#pragma once

#include <grpcpp/security/credentials.h>

#include <memory>
#include <string>

#include "idefics2/options.h"

namespace idefics2::internal {

/// Where a service is.
struct Endpoint {
  std::string target;  // host:port
  bool is_secure;
};

/// Reads what is given, else IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051. Fails with SettingInvalid.
Endpoint find_endpoint(const Options& options);

/// Returns the first key of: what is given, IDEFICS2_API_KEY, FAL_KEY; empty if there is none. Fails with
/// AuthenticationFailed.
std::string find_key(const std::string& given);

/// Reads the files of TLS, and refuses by name what grpc would take, and then never connect with.
std::shared_ptr<grpc::ChannelCredentials> read_credentials(const Tls& tls);

}  // namespace idefics2::internal
