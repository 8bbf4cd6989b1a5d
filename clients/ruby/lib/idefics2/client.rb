# frozen_string_literal: true

module Idefics2
  # Asks one service. All methods raise an Error where there is no answer, and SystemCallError where a file cannot be
  # read. Each takes `timeout` in seconds, which is sent along; nil and infinity are for ever. A question is the
  # keywords of V1::GenerateRequest, and `image`: a path (also a Pathname), an http(s) URL (also a URI) or a data URI.
  class Client
    DEFAULT_TARGET = '127.0.0.1:50051'
    MAX_MESSAGE_BYTES = 28 * 2**20
    ATTEMPTS = 3
    FIRST_PAUSE = 0.2
    MAX_PAUSE = 5.0
    # How long a new connection is waited for, before a call is made again.
    MAX_WAIT = 1.0
    # What longer timeouts are to grpc, which takes no time after 2038.
    MAX_TIMEOUT = 365 * 86_400
    CHANNEL_OPTIONS = {
      'grpc.max_receive_message_length' => MAX_MESSAGE_BYTES,
      'grpc.initial_reconnect_backoff_ms' => (FIRST_PAUSE * 1000).to_i,
      'grpc.max_reconnect_backoff_ms' => (MAX_PAUSE * 1000).to_i
    }.freeze
    # What the other clients read.
    FOREIGN_URL = %r{\A(?:grpcs?|https?)://}i
    PORT = /\A(?:[^:\[\]]+|\[[^\[\]]*\]):(\d+)\z/
    MAX_PORT = 65_535
    PRINTABLE = /\A[\x20-\x7e]*\z/n
    # What clients of the hosted endpoint call a key: `<id>:<secret>`. No key of this service holds a colon.
    WITH_COLON = /\A([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]+)\z/
    # The reasons that a wait may help against; empty: the service did not speak.
    PASSING = ['', 'BACKEND_UNAVAILABLE', 'SERVICE_STOPPING', 'STORE_UNAVAILABLE', 'FILE_STORE_UNAVAILABLE'].freeze

    # The stubs of the wire, whose calls need `metadata: client.metadata` and raise GRPC::BadStatus.
    attr_reader :generation, :requests, :files
    attr_reader :target, :metadata

    # The target comes from IDEFICS2_CLIENT_TARGET where it is left out, the key from IDEFICS2_API_KEY, else FAL_KEY.
    def initialize(target = nil, key: nil, credentials: :this_channel_is_insecure)
      @target = check_target(first_of(target, ENV.fetch('IDEFICS2_CLIENT_TARGET', nil), DEFAULT_TARGET))
      key = first_of(key, ENV.fetch('IDEFICS2_API_KEY', nil), ENV.fetch('FAL_KEY', nil))
      @metadata = key ? { 'authorization' => "Key #{write_key(key)}" } : {}
      @channel = GRPC::ClientStub.setup_channel(nil, @target, credentials, CHANNEL_OPTIONS.dup)
      options = { channel_override: @channel }
      @generation = V1::GenerationService::Stub.new(@target, credentials, **options)
      @requests = V1::RequestService::Stub.new(@target, credentials, **options)
      @files = V1::FileService::Stub.new(@target, credentials, **options)
    end

    # Returns the answer when it is complete.
    def generate(timeout: nil, **question)
      ask(generation, :generate, Question.write(**question), timeout)
    end

    # Yields each event as it happens, the finished one last. Who leaves the block cancels the call.
    def stream(timeout: nil, **question, &block)
      follow(generation, :generate_stream, Question.write(**question), timeout, &block)
    end

    # Returns what the question would cost, without running it.
    def count_tokens(timeout: nil, **question)
      ask_repeatedly(generation, :count_tokens, Question.write(**question), timeout)
    end

    # Hands in a request and returns where it stands; `options` are the keywords of V1::SubmitRequest.
    def submit(options = {}, timeout: nil, **question)
      message = Message.write(V1::SubmitRequest, options.merge(input: Question.write(**question)))
      ask(requests, :submit, message, timeout)
    end

    def get_request(id, timeout: nil)
      ask_repeatedly(requests, :get_request, Message.write(V1::GetRequestRequest, request_id: id), timeout)
    end

    # Yields each event after number `after`, to the finished one, over one connection.
    def watch(id, after: 0, timeout: nil, &block)
      message = Message.write(V1::WatchRequestRequest, request_id: id, after: after)
      follow(requests, :watch_request, message, timeout, &block)
    end

    # Returns the answer of a request that has ended; raises the request's own error.
    def result(id, timeout: nil)
      ask_repeatedly(requests, :get_result, Message.write(V1::GetResultRequest, request_id: id), timeout)
    end

    def cancel(id, timeout: nil)
      ask_repeatedly(requests, :cancel_request, Message.write(V1::CancelRequestRequest, request_id: id), timeout)
    end

    # Without the key, which logs shall not hold.
    def inspect
      "#<#{self.class} #{target}>"
    end

    private

    def ask(stub, method, message, timeout)
      ask_until(stub, method, message, find_deadline(timeout))
    end

    def find_deadline(timeout)
      Time.now + [timeout, MAX_TIMEOUT].min if timeout && timeout < Float::INFINITY
    end

    # Asks a few times where no answer comes: what only reads has the same effect and answer each time.
    def ask_repeatedly(stub, method, message, timeout)
      deadline = find_deadline(timeout)
      num_losses = 0
      begin
        ask_until(stub, method, message, deadline)
      rescue Error => e
        num_losses += 1
        raise unless num_losses < ATTEMPTS && e.code == 'UNAVAILABLE' && PASSING.include?(e.reason)

        pause(num_losses, e.retry_after, deadline)
        retry
      end
    end

    # Ctrl-C reaches who waits for a thread, but not who waits inside grpc. Who leaves cancels the call.
    def ask_until(stub, method, message, deadline)
      call = start(stub, method, message, deadline)
      finish(call, in_thread { call.execute })
    ensure
      call&.cancel
    end

    # Waits between 0 and a limit that doubles, and no shorter than the service asks for; then for a connection, where
    # there is none: grpc dials again in its own time, and fails at once what is called before.
    def pause(num_losses, asked, deadline)
      seconds = [[rand * FIRST_PAUSE * (2**(num_losses - 1)), asked.to_f].max, MAX_PAUSE].min
      seconds = [seconds, [deadline - Time.now, 0].max].min if deadline
      sleep(seconds)
      wait_by = [Time.now + MAX_WAIT, deadline].compact.min
      in_thread { @channel.watch_connectivity_state(GRPC::Core::ConnectivityStates::TRANSIENT_FAILURE, wait_by) }.join
    end

    def follow(stub, method, message, timeout)
      call = start(stub, method, message, find_deadline(timeout))
      answers = Thread::SizedQueue.new(1)
      reader = in_thread { read(call, answers) }
      while (answer = answers.pop)
        yield answer
      end
      finish(call, reader)
    ensure
      call&.cancel
      answers&.close # ends a reader that waits for room
    end

    # Returns what came of a call, or raises what ended it. No caller's block runs in here: what that raises is its own.
    def finish(call, thread)
      thread.value
    rescue GRPC::BadStatus => e
      raise Error.read(e, target, call.metadata)
    end

    def start(stub, method, message, deadline)
      stub.public_send(method, message, metadata: metadata, deadline: deadline, return_op: true)
    end

    def read(call, answers)
      call.execute.each { |answer| answers << answer }
      nil
    ensure
      answers.close
    end

    def in_thread(&block)
      Thread.new(&block).tap { |thread| thread.report_on_exception = false }
    end

    # grpc would take another port, or look a URL up as a name. The target is not shown: it may hold a password.
    def check_target(target)
      port = target.b[PORT, 1] || MAX_PORT
      return target if port.to_i.between?(1, MAX_PORT) && !target.b.match?(FOREIGN_URL) && target.valid_encoding?

      what = "HOST:PORT, and PORT 1 to #{MAX_PORT}; TLS is made by `credentials`"
      raise Error.new("the target must be #{what}", code: 'INVALID_ARGUMENT', field: 'target')
    end

    # grpc refuses a key that no header can hold, too, with an error that shows it.
    def write_key(key)
      unless key.b.match?(PRINTABLE)
        raise Error.new('the API key must be printable ASCII', code: 'UNAUTHENTICATED', reason: 'API_KEY_INVALID')
      end

      key.sub(WITH_COLON, '\1.\2')
    end

    # Strips bytes, for texts may have broken ones: what is wrong with them is said later.
    def first_of(*texts)
      text = texts.find { |one| !one.to_s.b.strip.empty? }
      text&.b&.strip&.force_encoding(text.encoding)
    end
  end
end
