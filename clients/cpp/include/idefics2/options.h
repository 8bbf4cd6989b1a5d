#pragma once

#include <grpcpp/support/channel_arguments.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "idefics2/cancellation.h"
#include "idefics2/error.h"

namespace grpc {
class ServerContextBase;
}

namespace idefics2 {

/// How calls are made again after a connection was lost: after pauses that double, up to a limit. `watch`, `wait`,
/// `submit_and_watch`, `upload` and `download` go on as long as their deadline allows. Calls that only read, and
/// `cancel`, are made a few times where they end UNAVAILABLE. All others are made once. Not by grpc's own retries:
/// those forget what is larger than 256 KiB, as images are, and know nothing of on_lost.
struct Retries {
  /// How often a call that only reads is made at most, before its error is told; 1 is once.
  int attempts = 3;
  /// The longest first pause. Each is drawn between 0 and its limit: callers shall not come back as one.
  std::chrono::milliseconds first_pause{200};
  /// The longest pause, even if the service asks for more.
  std::chrono::milliseconds max_pause{5000};
  /// Told of each loss, before the pause, on the thread that calls.
  std::function<void(const Error&)> on_lost;
};

/// Files in PEM. What is empty is left out.
struct Tls {
  /// Who vouches for the service. Default: the system's authorities.
  std::filesystem::path ca_file;
  /// What the caller shows of itself, where the service wants to know who calls; and its key.
  std::filesystem::path certificate_file;
  std::filesystem::path key_file;
};

/// What may be said of a client.
struct Options {
  /// `host`, `host:port` or a URL: `grpcs://` and `https://` mean TLS, `grpc://` and `http://` none. Empty:
  /// IDEFICS2_CLIENT_TARGET, else 127.0.0.1:50051.
  std::string target;
  /// `<id>.<secret>`. Empty: IDEFICS2_API_KEY, else FAL_KEY, else calls have none.
  std::string key;
  /// Connects by TLS, and says how. Default: as the target says.
  std::optional<Tls> tls;
  /// Bounds each call that has no deadline of its own. Default: such a call may take for ever.
  std::optional<std::chrono::milliseconds> timeout;
  Retries retries;
  /// For the channel below.
  grpc::ChannelArguments arguments;
};

/// What may be said of one call. It holds for all connections of the call together.
struct CallOptions {
  /// When the answer is of no use any more; it is sent along.
  std::optional<std::chrono::system_clock::time_point> deadline;
  /// Lets another thread, or a signal, end the call.
  std::optional<Cancellation> cancellation;
  /// Sent along, such as a `traceparent`. What gRPC cannot send fails with InvalidRequest.
  std::multimap<std::string, std::string> metadata;
  /// The call of this process's own caller, if this one serves it: it ends with that one. It must outlive the call, and
  /// the stream that it yields.
  const grpc::ServerContextBase* caller = nullptr;

  /// A deadline so far from now.
  static CallOptions within(std::chrono::milliseconds timeout);

  /// What a service that is called by gRPC hands on of its caller's call: the deadline, the trace (`traceparent` and
  /// `tracestate`, as W3C has them), and that its caller has left.
  static CallOptions on_behalf_of(const grpc::ServerContextBase& caller);
};

}  // namespace idefics2
