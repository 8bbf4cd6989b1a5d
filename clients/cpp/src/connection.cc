#include "connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <cstdint>

#include "endpoint.h"

namespace idefics2::internal {
namespace {

/// How often a quiet connection is tested; servers suffer no less than 300 s, unless they are set to.
constexpr int kPingMillis = 310'000;
constexpr int kPingTimeoutMillis = 20'000;
/// What a message has at most; the library's own limit is 4 MiB.
constexpr int kMaxMessageBytes = 28 << 20;
/// Without any pause, grpc is for ever connecting, and calls wait for that.
constexpr int kMinPauseMillis = 10;
constexpr int kMaxPauseMillis = 24 * 3'600'000;

int count_pause(std::chrono::milliseconds pause) {
  return static_cast<int>(std::clamp<std::int64_t>(pause.count(), kMinPauseMillis, kMaxPauseMillis));
}

grpc::ChannelArguments write_arguments(const Options& options) {
  grpc::ChannelArguments arguments = options.arguments;
  arguments.SetLoadBalancingPolicyName("round_robin");  // over all addresses of the target
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, count_pause(options.retries.first_pause));
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, count_pause(options.retries.max_pause));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kPingMillis);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMillis);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // no limit: a watch may be quiet for hours
  return arguments;
}

std::shared_ptr<grpc::Channel> open_channel(const Endpoint& endpoint, const Options& options) {
  auto credentials =
      endpoint.is_secure ? read_credentials(options.tls.value_or(Tls())) : grpc::InsecureChannelCredentials();
  return grpc::CreateCustomChannel(endpoint.target, credentials, write_arguments(options));
}

}  // namespace

Connection::Connection(const Options& options)
    : key(find_key(options.key)), timeout(options.timeout), retries(options.retries) {
  const Endpoint endpoint = find_endpoint(options);
  target = endpoint.target;
  const auto channel = open_channel(endpoint, options);
  generation = v1::GenerationService::NewStub(channel);
  requests = v1::RequestService::NewStub(channel);
  files = v1::FileService::NewStub(channel);
}

}  // namespace idefics2::internal
