// What is promised of this client beyond the contract vectors: classes of errors, ways to leave, sources of bytes.
#include "idefics2/client.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <fstream>
#include <functional>
#include <future>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>
#include <type_traits>

#include "service.h"

namespace {

using fakes::refuse;
using fakes::Service;
using idefics2::CallOptions;
using idefics2::Client;

const idefics2::Question kQuestion({idefics2::Image::bytes("x")}, "What?");

static_assert(std::is_move_constructible_v<Client> && std::is_move_assignable_v<Client>);
static_assert(std::is_move_constructible_v<idefics2::Stream<idefics2::Event>>);
static_assert(!std::is_copy_constructible_v<idefics2::Stream<idefics2::Event>>);
static_assert(std::is_nothrow_copy_constructible_v<idefics2::FileUnreadable>);

/// Returns the error that a call ends by, and fails where it is of another class.
template <class Error, class Call>
std::optional<Error> expect(const Call& call) {
  try {
    call();
    ADD_FAILURE() << "there is an answer";
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another error: " << error.what();
  }
  return std::nullopt;
}

CallOptions cancellable() {
  CallOptions options;
  options.cancellation.emplace();
  return options;
}

TEST(Errors, AWrongKeyIsToldByItsClassAndReason) {
  Service service;
  service.generation.refusal = refuse(grpc::StatusCode::UNAUTHENTICATED, "API_KEY_INVALID");
  const Client client(service.options());
  const auto error = expect<idefics2::AuthenticationFailed>([&] { client.generate(kQuestion); });
  ASSERT_TRUE(error);
  EXPECT_TRUE(error->is(idefics2::v1::API_KEY_INVALID));
  EXPECT_FALSE(error->is(idefics2::v1::API_KEY_MISSING));
  EXPECT_STREQ(error->what(), "why");
  EXPECT_EQ(error->request_id(), "r-1");
  EXPECT_EQ(error->metadata().at("a"), "b");
  EXPECT_EQ(service.generation.metadata.front().find("authorization")->second, "Key local.key");
}

TEST(Errors, AServiceThatIsFullSaysWhenToComeBack) {
  Service service;
  const std::chrono::milliseconds pause(250);
  service.generation.refusal = refuse(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL", "prompt", pause);
  const Client client(service.options());
  const auto error = expect<idefics2::Overloaded>([&] { client.generate(kQuestion); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->retry_after(), pause);
  EXPECT_EQ(error->field(), "prompt");
}

TEST(Errors, AFileThatIsNotThereIsToldByItsNameBeforeAnyCall) {
  idefics2::Options options;
  options.target = "127.0.0.1:1";
  const Client client(options);
  const idefics2::Question question({idefics2::Image::file("nowhere.png")}, "What?");
  for (const auto& error : {expect<idefics2::FileUnreadable>([&] { client.upload("nowhere.png"); }),
                            expect<idefics2::FileUnreadable>([&] { client.generate(question); })}) {
    ASSERT_TRUE(error);
    EXPECT_STREQ(error->what(), "cannot read nowhere.png: there is no such file");
    EXPECT_EQ(error->cause(), std::errc::no_such_file_or_directory);
  }
}

TEST(Errors, AnImageThatIsTooLargeIsRefusedBeforeItIsRead) {
  const auto path = std::filesystem::temp_directory_path() / "idefics2-large.png";
  std::ofstream(path, std::ios::binary) << "x";
  std::filesystem::resize_file(path, std::uintmax_t{1} << 40U);  // more than any memory holds, all of it a hole
  const Client client;
  const auto error = expect<idefics2::InvalidRequest>([&] {
    client.generate({{idefics2::Image::file(path)}, "What?"});
  });
  std::filesystem::remove(path);
  ASSERT_TRUE(error);
  EXPECT_TRUE(error->is(idefics2::v1::FILE_TOO_LARGE));
}

TEST(Images, APipeAtAPathIsReadToItsEnd) {
  Service service;
  const auto path = std::filesystem::temp_directory_path() / "idefics2-image-pipe.png";
  std::filesystem::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  auto writing = std::async(std::launch::async, [&] { std::ofstream(path, std::ios::binary) << "a picture"; });
  EXPECT_EQ(Client(service.options()).generate({{idefics2::Image::file(path)}, "What?"}).output(), "A cat.");
  writing.get();
  std::filesystem::remove(path);
  EXPECT_EQ(service.generation.asked.images(0).data(), "a picture");
}

TEST(Errors, ImagesThatAreTooLargeTogetherAreRefusedAsSuchAndWhatFitsIsSent) {
  Service service;
  const Client client(service.options());
  const auto image = idefics2::Image::bytes(std::string(14'640'000, 'x'));
  const auto more = idefics2::Image::bytes(std::string(20'000, 'x'));
  const auto uri = idefics2::Image::url("data:image/bmp;base64," + std::string(14'640'000, 'A'));
  EXPECT_EQ(client.generate({{image, image}, "What?"}).output(), "A cat.");
  for (const auto& first : {image, uri}) {
    const auto error = expect<idefics2::InvalidRequest>([&] { client.submit({{{first, image, more}, "What?"}}); });
    ASSERT_TRUE(error);
    EXPECT_TRUE(error->is(idefics2::v1::PAYLOAD_TOO_LARGE));
    EXPECT_EQ(error->field(), "images");
    EXPECT_NE(std::string(error->what()).find("upload"), std::string::npos);
  }
}

TEST(Errors, APauseBeyondAllMeasureIsALongOne) {
  Service service;
  const std::chrono::seconds pause(315'576'000'000);  // the most that protobuf knows
  service.generation.refusal = refuse(grpc::StatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL", "", pause);
  const Client client(service.options());
  const auto error = expect<idefics2::Overloaded>([&] { client.generate(kQuestion); });
  ASSERT_TRUE(error);
  EXPECT_GT(error->retry_after(), std::chrono::hours(24));
}

TEST(Errors, AFolderIsNoFileEvenWhereItHasNoSize) {
  const Client client;
  for (const auto& folder : {std::filesystem::temp_directory_path(), std::filesystem::path("/proc")}) {
    const idefics2::Question question({idefics2::Image::file(folder)}, "What?");
    for (const auto& error : {expect<idefics2::FileUnreadable>([&] { client.upload(folder); }),
                              expect<idefics2::FileUnreadable>([&] { client.generate(question); })}) {
      ASSERT_TRUE(error);
      EXPECT_EQ(error->cause(), std::errc::is_a_directory);
    }
  }
}

TEST(Errors, TextThatIsNotUnicodeNamesItsField) {
  const Client client;
  idefics2::Question stop({}, "What?");
  stop.stop = {"a", "\xed\xa0\x80"};
  idefics2::Submission webhook(kQuestion);
  webhook.webhook_url = "\xc0\x80";
  const auto field_of = [](const auto& call) {
    const auto error = expect<idefics2::InvalidRequest>(call);
    return error && error->is(idefics2::v1::TEXT_NOT_UNICODE) ? error->field() : "";
  };
  EXPECT_EQ(field_of([&] { client.generate({{}, "\xff"}); }), "prompt");
  EXPECT_EQ(field_of([&] { client.generate(stop); }), "stop");
  EXPECT_EQ(field_of([&] { client.submit(webhook); }), "webhook_url");
  EXPECT_EQ(field_of([&] { client.generate({{idefics2::Image::url("\xe2\x82")}, "What?"}); }), "url");
}

TEST(Retries, WhatOnlyReadsIsAskedThreeTimesAndAllElseOnce) {
  Service service;
  service.generation.refusal = refuse(grpc::StatusCode::UNAVAILABLE, "STORE_UNAVAILABLE");
  idefics2::Options options = service.options();
  std::vector<std::string> losses;
  options.retries.on_lost = [&](const idefics2::Error& error) { losses.push_back(error.reason()); };
  const Client client(options);
  expect<idefics2::ServiceUnavailable>([&] { client.count_tokens(kQuestion); });
  EXPECT_EQ(service.generation.metadata.size(), 3U);
  EXPECT_EQ(losses.size(), 2U);
  expect<idefics2::ServiceUnavailable>([&] { client.generate(kQuestion); });
  EXPECT_EQ(service.generation.metadata.size(), 4U);
}

TEST(Retries, NothingIsAskedAgainBeforeTheTimeThatTheServiceAsksFor) {
  Service service;
  service.generation.refusal =
      refuse(grpc::StatusCode::UNAVAILABLE, "STORE_UNAVAILABLE", "", std::chrono::milliseconds(3'000'000));
  idefics2::Options options = service.options();
  options.retries.max_pause = std::chrono::hours(1);
  options.timeout = std::chrono::milliseconds(300);
  const Client client(options);
  expect<idefics2::DeadlineExceeded>([&] { client.count_tokens(kQuestion); });
  EXPECT_EQ(service.generation.metadata.size(), 1U);
}

TEST(Leaving, ADeadlineThatPassesEndsTheCallAtBothSides) {
  Service service;
  const Client client(service.options());
  auto events = client.stream(kQuestion, CallOptions::within(std::chrono::milliseconds(300)));
  expect<idefics2::DeadlineExceeded>([&] {
    while (events.next()) {
    }
  });
  EXPECT_FALSE(events.next());
  service.generation.cancelled.get_future().wait();
  expect<idefics2::DeadlineExceeded>(
      [&] { client.generate(kQuestion, CallOptions::within(std::chrono::milliseconds(0))); });
}

TEST(Leaving, ADeadlineBeyondAllMeasureIsFarAway) {
  const auto now = std::chrono::system_clock::now();
  EXPECT_GT(CallOptions::within(std::chrono::milliseconds::max()).deadline, now + std::chrono::hours(24));
  const auto passed = CallOptions::within(std::chrono::milliseconds::min()).deadline;
  EXPECT_LE(passed, std::chrono::system_clock::now());
}

TEST(Leaving, ADeadlineIsNotOverAtOnceBecauseItIsFarAway) {
  Service service;
  const Client client(service.options());
  const auto now = std::chrono::system_clock::now();
  CallOptions options;
  for (const auto deadline : {now + std::chrono::hours(24 * 30), now + std::chrono::hours(24 * 365 * 200),
                              std::chrono::system_clock::time_point::max()}) {
    options.deadline = deadline;
    EXPECT_EQ(client.generate(kQuestion, options).output(), "A cat.");
  }
  idefics2::Options bounded = service.options();
  bounded.timeout = std::chrono::milliseconds::max();
  EXPECT_EQ(Client(bounded).generate(kQuestion).output(), "A cat.");
}

TEST(Leaving, AStreamThatGoesOutOfScopeCancelsTheCallAndOutlivesItsClient) {
  Service service;
  auto client = std::make_unique<Client>(service.options());
  {
    auto events = client->stream(kQuestion);
    client.reset();
    auto moved = std::move(events);
    EXPECT_EQ(moved.next()->text_delta().text(), "A");
    events.cancel();  // is another's now
    EXPECT_FALSE(events.next());
  }
  service.generation.cancelled.get_future().wait();
}

TEST(Leaving, AnotherThreadMayCancelAStream) {
  Service service;
  const Client client(service.options());
  auto events = client.stream(kQuestion);
  EXPECT_TRUE(events.next());
  std::thread other([&] { events.cancel(); });
  expect<idefics2::Cancelled>([&] {
    for ([[maybe_unused]] const auto& event : events) {
    }
  });
  other.join();
  service.generation.cancelled.get_future().wait();
}

TEST(Leaving, CtrlCInMidAnswerCancelsTheCall) {
  Service service;
  const Client client(service.options());
  const CallOptions options = cancellable();
  auto events = client.stream(kQuestion, options);
  EXPECT_TRUE(events.next());
  const idefics2::CancelOnSignal interrupt(*options.cancellation);
  std::raise(SIGINT);
  expect<idefics2::Cancelled>([&] {
    while (events.next()) {
    }
  });
  service.generation.cancelled.get_future().wait();
  expect<idefics2::Cancelled>([&] { client.generate(kQuestion, options); });
}

TEST(Leaving, ASignalThatNobodyMayTakeIsRefused) {
  EXPECT_THROW(idefics2::CancelOnSignal({}, SIGKILL), std::system_error);
}

TEST(Leaving, CancellingCancelsTheRequestThatIsWaitedFor) {
  Service service;
  const Client client(service.options());
  const CallOptions options = cancellable();
  idefics2::Submission submission(kQuestion);
  submission.request_id = "mine";
  expect<idefics2::Cancelled>([&] {
    client.submit_and_watch(
        submission, [&](const auto&) { options.cancellation->cancel(); }, options);
  });
  EXPECT_EQ(service.requests.cancelled.get_future().get(), "mine");
}

TEST(Leaving, AnExceptionOfTheCallerGoesThroughAndCancelsTheRequestToo) {
  Service service;
  const Client client(service.options());
  expect<std::domain_error>(
      [&] { client.submit_and_watch(kQuestion, [](const auto&) { throw std::domain_error("mine"); }); });
  EXPECT_NE(service.requests.cancelled.get_future().get(), "");
}

TEST(Leaving, AWatchThatIsLeftLeavesTheRequestAlone) {
  Service service;
  const Client client(service.options());
  EXPECT_EQ(client.watch("mine").next()->sequence(), 1);
  service.requests.left.get_future().wait();
  auto cancelled = service.requests.cancelled.get_future();
  EXPECT_EQ(cancelled.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
}

/// A stream that cannot seek.
class Pipe : public std::stringbuf {
 public:
  using std::stringbuf::stringbuf;
  pos_type seekoff(off_type, std::ios::seekdir, std::ios::openmode) override { return pos_type(off_type(-1)); }
};

/// A stream that cannot seek, and has nothing ready: it calls a function for each byte.
class Bytewise : public std::streambuf {
 public:
  explicit Bytewise(std::function<int_type()> next) : next_(std::move(next)) {}

 protected:
  int_type underflow() override {
    if (!is_ahead_) ahead_ = next_();
    is_ahead_ = true;
    return ahead_;
  }
  int_type uflow() override {
    const auto byte = underflow();
    is_ahead_ = false;
    return byte;
  }

 private:
  std::function<int_type()> next_;
  bool is_ahead_ = false;
  int_type ahead_ = 0;
};

/// Long enough for whoever leaves in time; what is waited for comes when it is over.
class Patience {
 public:
  bool is_over() const { return std::chrono::steady_clock::now() >= end_; }
  auto end() const { return end_; }

 private:
  const std::chrono::steady_clock::time_point end_ = std::chrono::steady_clock::now() + std::chrono::seconds(10);
};

/// A pipe at a path.
struct NamedPipe {
  std::filesystem::path path = std::filesystem::temp_directory_path() / "idefics2-trickle.png";

  NamedPipe() {
    std::filesystem::remove(path);
    if (mkfifo(path.c_str(), 0600) != 0) throw std::system_error(errno, std::generic_category(), "mkfifo");
  }
  ~NamedPipe() { std::filesystem::remove(path); }
};

/// A pipe that somebody fills three bytes at a time until patience is over, or comes to only then.
class Trickle {
 public:
  enum class Writer { kWrites, kStaysAway };

  explicit Trickle(Writer writer, std::function<void()> on_begun = {})
      : on_begun_(std::move(on_begun)), thread_([this, writer] { run(writer); }) {}
  ~Trickle() {
    {
      const std::lock_guard lock(mutex_);
      is_left_ = true;
    }
    left_.notify_all();
    thread_.join();
  }
  Trickle(const Trickle&) = delete;
  Trickle& operator=(const Trickle&) = delete;

  const std::filesystem::path& path() const { return pipe_.path; }
  bool is_over() const { return patience_.is_over(); }

 private:
  void run(Writer writer) {
    if (writer == Writer::kStaysAway) wait_until(patience_.end());
    const int end = open(path().c_str(), O_RDWR | O_CLOEXEC);  // which waits for nobody
    for (int i = 0; wait_until(std::chrono::steady_clock::now() + std::chrono::milliseconds(10)); ++i) {
      if (write(end, "abc", 3) != 3 || is_over()) break;
      if (i == 3 && on_begun_) on_begun_();
    }
    close(end);
  }

  /// False: nobody reads any more.
  bool wait_until(std::chrono::steady_clock::time_point time) {
    std::unique_lock lock(mutex_);
    return !left_.wait_until(lock, time, [this] { return is_left_; });
  }

  const NamedPipe pipe_;
  const Patience patience_;
  std::function<void()> on_begun_;
  std::mutex mutex_;
  std::condition_variable left_;
  bool is_left_ = false;
  std::thread thread_;  // the last one, for it uses the others
};

const auto kSoon = std::chrono::milliseconds(300);

/// Calls what reads a pipe, and expects it to be left at its deadline, and by a cancellation.
void expect_leaving_of_pipes(const std::function<void(const std::filesystem::path&, const CallOptions&)>& call) {
  for (const auto writer : {Trickle::Writer::kWrites, Trickle::Writer::kStaysAway}) {
    const Trickle trickle(writer);
    expect<idefics2::DeadlineExceeded>([&] { call(trickle.path(), CallOptions::within(kSoon)); });
    EXPECT_FALSE(trickle.is_over());
  }
  const CallOptions options = cancellable();
  const Trickle trickle(Trickle::Writer::kWrites, [&] { options.cancellation->cancel(); });
  expect<idefics2::Cancelled>([&] { call(trickle.path(), options); });
  EXPECT_FALSE(trickle.is_over());
}

TEST(Leaving, AnUploadOfAPipeThatTricklesOrThatNobodyWritesIsLeft) {
  const Client client;
  expect_leaving_of_pipes([&](const auto& path, const auto& options) { client.upload(path, {}, options); });
}

TEST(Leaving, AQuestionWhoseImageIsAPipeThatTricklesOrThatNobodyWritesIsLeft) {
  const Client client;
  expect_leaving_of_pipes([&](const auto& path, const auto& options) {
    client.submit_and_watch({{{idefics2::Image::file(path)}, "What?"}}, {}, options);
  });
}

TEST(Leaving, AnUploadOfAStreamThatTricklesIsLeftBetweenItsReads) {
  const Client client;
  const Patience patience;
  const CallOptions options = cancellable();
  int num_bytes = 0;
  Bytewise trickle([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (++num_bytes == 100) options.cancellation->cancel();
    return patience.is_over() ? std::char_traits<char>::eof() : 'x';
  });
  std::istream source(&trickle);
  expect<idefics2::DeadlineExceeded>([&] { client.upload(source, {}, CallOptions::within(kSoon)); });
  source.clear();
  expect<idefics2::Cancelled>([&] { client.upload(source, {}, options); });
  EXPECT_FALSE(patience.is_over());
}

TEST(Images, APipeWhoseWriterHasGoneIsReadToItsEnd) {
  Service service;
  const NamedPipe pipe;
  const int held = open(pipe.path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  std::ofstream(pipe.path, std::ios::binary) << "a picture";
  const auto options = CallOptions::within(std::chrono::seconds(10));
  EXPECT_EQ(Client(service.options()).generate({{idefics2::Image::file(pipe.path)}, "What?"}, options).output(),
            "A cat.");
  close(held);
  EXPECT_EQ(service.generation.asked.images(0).data(), "a picture");
}

/// Sees, while it is read, what this process holds open of `folder`.
class WatchedPipe : public Pipe {
 public:
  WatchedPipe(const std::string& bytes, std::filesystem::path folder) : Pipe(bytes), folder_(std::move(folder)) {}

  std::set<std::filesystem::perms> seen;

 protected:
  std::streamsize xsgetn(char* bytes, std::streamsize num_bytes) override {
    for (const auto& file : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code gone;
      const auto path = std::filesystem::read_symlink(file, gone).string();
      if (path.rfind(folder_.string() + "/idefics2-", 0) == 0) seen.insert(std::filesystem::status(file).permissions());
    }
    return Pipe::xsgetn(bytes, num_bytes);
  }

 private:
  std::filesystem::path folder_;
};

class Uploads : public testing::Test {
 protected:
  Uploads() {
    while (bytes_.size() < 3'000'000) bytes_ += "BM, and no two pieces alike " + std::to_string(bytes_.size());
  }

  void check(const idefics2::File& file, const std::string& name) const {
    EXPECT_EQ(file.id(), "f");
    EXPECT_EQ(service_.files.num_uploads, 2);
    EXPECT_TRUE(service_.files.received == bytes_);
    EXPECT_EQ(service_.files.name, name);
  }

  std::string bytes_;
  Service service_;
  Client client_{service_.options()};
};

TEST_F(Uploads, AFileIsSentAgainAfterALoss) {
  const auto path = std::filesystem::temp_directory_path() / "idefics2-cat.bmp";
  std::ofstream(path, std::ios::binary) << bytes_;
  idefics2::Transfer last{};
  check(client_.upload(path, {"", [&](const auto& transfer) { last = transfer; }}), "idefics2-cat.bmp");
  EXPECT_EQ(last.num_bytes, static_cast<std::int64_t>(bytes_.size()));
  std::filesystem::remove(path);
}

TEST_F(Uploads, APipeAtAPathIsSentWholeAndAgainAfterALoss) {
  const auto path = std::filesystem::temp_directory_path() / "idefics2-pipe.bmp";
  std::filesystem::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  auto writing = std::async(std::launch::async, [&] { std::ofstream(path, std::ios::binary) << bytes_; });
  check(client_.upload(path), "idefics2-pipe.bmp");
  writing.get();
  std::filesystem::remove(path);
}

TEST_F(Uploads, WhatIsLeftOfAStreamIsSentAgainAfterALoss) {
  std::istringstream source("begun" + bytes_);
  source.seekg(5);
  check(client_.upload(source, {"cat.bmp", {}}), "cat.bmp");
}

TEST_F(Uploads, AStreamThatCannotSeekIsSentAgainAfterALoss) {
  Pipe pipe(bytes_);
  std::istream source(&pipe);
  check(client_.upload(source), "");
}

TEST_F(Uploads, AStreamThatHoldsNothingReadyIsSentWhole) {
  std::size_t offset = 0;
  Bytewise bytewise([&] {
    using Traits = std::char_traits<char>;
    return offset < bytes_.size() ? Traits::to_int_type(bytes_[offset++]) : Traits::eof();
  });
  std::istream source(&bytewise);
  check(client_.upload(source), "");
}

TEST_F(Uploads, AStreamThatThrowsAtItsEndIsSentWholeAndThrowsAfterwardsAsBefore) {
  Pipe pipe(bytes_);
  std::istream source(&pipe);
  source.exceptions(std::ios::failbit | std::ios::badbit);
  check(client_.upload(source), "");
  EXPECT_EQ(source.exceptions(), std::ios::failbit | std::ios::badbit);
  EXPECT_THROW(source.get(), std::ios::failure);
}

TEST_F(Uploads, AStreamThatHasFailedIsRefused) {
  std::ifstream absent("nowhere.png");
  std::istringstream bad(bytes_);
  bad.setstate(std::ios::badbit);
  for (std::istream* source : {static_cast<std::istream*>(&absent), static_cast<std::istream*>(&bad)}) {
    const auto error = expect<idefics2::FileUnreadable>([&] { client_.upload(*source); });
    ASSERT_TRUE(error);
    EXPECT_STREQ(error->what(), "cannot read the stream: Input/output error");
  }
  EXPECT_EQ(service_.files.num_uploads, 0);
}

/// Lets temporary files be kept in a folder that is not there.
class NoTemporaryFolder {
 public:
  NoTemporaryFolder() {
    if (const char* folder = std::getenv("TMPDIR")) folder_ = folder;
    setenv("TMPDIR", "/nowhere", 1);
  }
  ~NoTemporaryFolder() {
    unsetenv("TMPDIR");
    if (folder_) setenv("TMPDIR", folder_->c_str(), 1);
  }
  NoTemporaryFolder(const NoTemporaryFolder&) = delete;
  NoTemporaryFolder& operator=(const NoTemporaryFolder&) = delete;

 private:
  std::optional<std::string> folder_;
};

TEST_F(Uploads, AStreamThatFindsNoRoomOnDiskIsRefusedByAnErrorOfTheTree) {
  const NoTemporaryFolder folder;
  Pipe pipe(bytes_);
  std::istream source(&pipe);
  const auto error = expect<idefics2::FileUnreadable>([&] { client_.upload(source); });
  ASSERT_TRUE(error);
  EXPECT_STREQ(error->what(), "cannot read the folder for temporary files (TMPDIR): there is no such file");
}

TEST_F(Uploads, NobodyElseMayReadTheCopyOfAStream) {
  WatchedPipe pipe(bytes_, std::filesystem::temp_directory_path());
  std::istream source(&pipe);
  check(client_.upload(source), "");
  EXPECT_EQ(pipe.seen, std::set{std::filesystem::perms::owner_read | std::filesystem::perms::owner_write});
}

/// A folder that is gone with all that it holds.
struct Folder {
  std::filesystem::path path = std::filesystem::temp_directory_path() / "idefics2-downloads";

  Folder() {
    std::filesystem::remove_all(path);
    std::filesystem::create_directory(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }

  std::string read(const std::string& name) const {
    std::ostringstream content;
    content << std::ifstream(path / name, std::ios::binary).rdbuf();
    return content.str();
  }
  auto count() const {
    return std::distance(std::filesystem::directory_iterator(path), std::filesystem::directory_iterator());
  }
};

TEST(Downloads, TwoToOnePathAtATimeDisturbNeitherEachOtherNorOtherFiles) {
  Service service;
  service.files.content = "BM, all of it";
  service.files.sha256 = "a788e4828f5270bfbb2ede2ea6f78402a0130fe8052a4a21b4a58d2646248a84";
  const Client client(service.options());
  const Folder folder;
  std::ofstream(folder.path / "cat.bmp.part") << "mine";
  const auto download = [&](const idefics2::OnProgress& on_progress) {
    client.download("f", folder.path / "cat.bmp", on_progress);
  };
  download([&](const auto&) { download({}); });
  EXPECT_EQ(folder.read("cat.bmp"), service.files.content);
  EXPECT_EQ(folder.read("cat.bmp.part"), "mine");
  EXPECT_EQ(folder.count(), 2);
}

TEST(Downloads, OneThatFailsLeavesNoFile) {
  Service service;
  service.files.content = "BM, not all of it";
  const Client client(service.options());
  const Folder folder;
  expect<idefics2::ServiceFailed>([&] { client.download("f", folder.path / "cat.bmp"); });
  EXPECT_EQ(folder.count(), 0);
}

}  // namespace
