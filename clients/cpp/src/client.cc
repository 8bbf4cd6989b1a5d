#include "idefics2/client.h"

#include <utility>

#include "connection.h"
#include "content.h"
#include "download.h"
#include "flow.h"
#include "operation.h"
#include "upload.h"
#include "watcher.h"

namespace idefics2 {
namespace {

using internal::Connection;
using internal::Operation;
using Generation = v1::GenerationService::Stub;
using Requests = v1::RequestService::Stub;
using Files = v1::FileService::Stub;

/// The events of one call.
class Events : public internal::Source<Event> {
 public:
  Events(std::shared_ptr<Operation> operation, const v1::GenerateRequest& request)
      : operation_(operation), flow_(operation, [&](grpc::ClientContext* context) {
          return operation->connection().generation->GenerateStream(context, request);
        }) {}

  std::optional<Event> read() override { return flow_.read(); }
  void cancel() override { operation_->leave(); }

 private:
  std::shared_ptr<Operation> operation_;
  internal::Flow<Event> flow_;
};

/// The requests of a key; a page is fetched when it is needed, each with a deadline of its own.
class Pages : public internal::Source<Request> {
 public:
  Pages(std::shared_ptr<Operation> operation, const Filter& filter) : operation_(std::move(operation)) {
    question_.set_state(filter.state);
    question_.set_page_size(filter.page_size);
  }

  std::optional<Request> read() override {
    while (next_ == page_.requests_size()) {
      if (is_last_) return std::nullopt;
      turn();
    }
    return page_.requests(next_++);
  }

  void cancel() override { operation_->leave(); }

 private:
  void turn() {
    operation_->restart();
    page_ = operation_->ask_repeatedly(&Requests::ListRequests, *operation_->connection().requests, question_);
    next_ = 0;
    question_.set_page_token(page_.next_page_token());
    is_last_ = page_.next_page_token().empty();
  }

  std::shared_ptr<Operation> operation_;
  v1::ListRequestsRequest question_;
  v1::ListRequestsResponse page_;
  int next_ = 0;
  bool is_last_ = false;
};

/// As it goes over the wire. Images may be read from pipes, which the operation bounds too.
template <class Asked>
auto write(const Asked& asked, const Operation& operation) {
  return asked.write([&operation] { operation.check(); });
}

template <class Question>
Question name_request(const std::string& request_id) {
  Question question;
  question.set_request_id(request_id);
  return question;
}

}  // namespace

Client::Client(const Options& options) : connection_(std::make_shared<const Connection>(options)) {}

const std::string& Client::target() const { return connection_->target; }

Answer Client::generate(const Question& question, const CallOptions& options) const {
  const auto operation = Operation::begin(connection_, options);
  return operation->ask(&Generation::Generate, *connection_->generation, write(question, *operation));
}

Stream<Event> Client::stream(const Question& question, const CallOptions& options) const {
  const auto operation = Operation::begin(connection_, options);
  return Stream<Event>(std::make_unique<Events>(operation, write(question, *operation)));
}

Cost Client::count_tokens(const Question& question, const CallOptions& options) const {
  const auto operation = Operation::begin(connection_, options);
  return operation->ask_repeatedly(&Generation::CountTokens, *connection_->generation, write(question, *operation));
}

Request Client::submit(const Submission& submission, const CallOptions& options) const {
  const auto operation = Operation::begin(connection_, options);
  return operation->ask(&Requests::Submit, *connection_->requests, write(submission, *operation));
}

Request Client::get_request(const std::string& request_id, const CallOptions& options) const {
  const auto operation = Operation::begin(connection_, options);
  return operation->ask_repeatedly(&Requests::GetRequest, *connection_->requests,
                                   name_request<v1::GetRequestRequest>(request_id));
}

Request Client::get_request_with_logs(const std::string& request_id, const CallOptions& options) const {
  auto question = name_request<v1::GetRequestRequest>(request_id);
  question.set_include_logs(true);
  const auto operation = Operation::begin(connection_, options);
  return operation->ask_repeatedly(&Requests::GetRequest, *connection_->requests, question);
}

Stream<Event> Client::watch(const std::string& request_id, std::int64_t after, const CallOptions& options) const {
  return Stream<Event>(
      std::make_unique<internal::Watcher>(Operation::begin(connection_, options), internal::Cursor(request_id, after)));
}

Answer Client::result(const std::string& request_id, const CallOptions& options) const {
  const auto operation = Operation::begin(connection_, options);
  return operation->ask_repeatedly(&Requests::GetResult, *connection_->requests,
                                   name_request<v1::GetResultRequest>(request_id));
}

Answer Client::wait(const std::string& request_id, const CallOptions& options) const {
  internal::Watcher watcher(Operation::begin(connection_, options), internal::Cursor(request_id, 0));
  while (watcher.read()) {
  }
  return watcher.cursor().answer();
}

Request Client::cancel(const std::string& request_id, const CallOptions& options) const {
  const auto operation = Operation::begin(connection_, options);
  return operation->ask_repeatedly(&Requests::CancelRequest, *connection_->requests,
                                   name_request<v1::CancelRequestRequest>(request_id));
}

Answer Client::submit_and_watch(const Submission& submission, const std::function<void(const Event&)>& on_event,
                                const CallOptions& options) const {
  const auto operation = Operation::begin(connection_, options);
  return internal::submit_and_watch(operation, write(submission, *operation), on_event);
}

Stream<Request> Client::list_requests(const Filter& filter, const CallOptions& options) const {
  return Stream<Request>(std::make_unique<Pages>(Operation::begin(connection_, options), filter));
}

File Client::upload(const std::filesystem::path& path, const UploadOptions& upload_options,
                    const CallOptions& options) const {
  const auto operation = Operation::begin(connection_, options);
  internal::Content content(*operation, path, upload_options.name);
  return internal::Upload(*operation, content, upload_options.on_progress).run();
}

File Client::upload(std::istream& source, const UploadOptions& upload_options, const CallOptions& options) const {
  const auto operation = Operation::begin(connection_, options);
  internal::Content content(*operation, source, upload_options.name);
  return internal::Upload(*operation, content, upload_options.on_progress).run();
}

File Client::download(const std::string& file, const std::filesystem::path& path, const OnProgress& on_progress,
                      const CallOptions& options) const {
  return internal::Download(Operation::begin(connection_, options), file, on_progress).to(path);
}

File Client::get_file(const std::string& file, const CallOptions& options) const {
  const auto operation = Operation::begin(connection_, options);
  return operation->ask_repeatedly(&Files::GetFile, *connection_->files, internal::name_file<v1::GetFileRequest>(file));
}

File Client::delete_file(const std::string& file, const CallOptions& options) const {
  return Operation::begin(connection_, options)
      ->ask(&Files::DeleteFile, *connection_->files, internal::name_file<v1::DeleteFileRequest>(file));
}

}  // namespace idefics2
