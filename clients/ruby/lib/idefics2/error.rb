# frozen_string_literal: true

require 'google/protobuf/well_known_types'
require 'google/rpc/error_details_pb'

module Idefics2
  # What a caller gets instead of an answer. `reason` is what to match on: the name of a value of the proto's
  # ErrorReason, or empty where it was not the service that refused. `cause` is grpc's own error.
  class Error < StandardError
    DOMAIN = 'idefics2'
    DETAILS = [Google::Rpc::ErrorInfo, Google::Rpc::BadRequest, Google::Rpc::RetryInfo].freeze

    # The name of the status code, such as `UNAVAILABLE`.
    attr_reader :code
    attr_reader :reason
    # The field of the request that is at fault, for example `images[0].data`; empty if there is none.
    attr_reader :field
    # The request's name in the service's log; empty if the service never saw the request.
    attr_reader :request_id
    # What the reason has to say for programs: names and values, see the comments of the proto's ErrorReason.
    attr_reader :metadata
    # How many seconds to wait before the same request is worth sending again; nil if the service did not say.
    attr_reader :retry_after

    # Reads what grpc raised by a call to `target`; `headers` are what came before, nil if nothing did.
    def self.read(status, target, headers)
      info, bad_request, retry_info = read_details(status)
      known = { code: name_code(status.code), request_id: find_request_id(headers, status.metadata) }
      return new(explain(status, target), **known) if info.domain != DOMAIN

      delay = retry_info.retry_delay
      new(
        status.details.dup.force_encoding(Encoding::UTF_8),
        **known,
        reason: info.reason,
        metadata: info.metadata.to_h,
        field: bad_request.field_violations.first&.field.to_s,
        retry_after: delay && (delay.seconds + (delay.nanos / 1e9))
      )
    end

    def initialize(message, code:, reason: '', field: '', request_id: '', metadata: {}, retry_after: nil)
      super(message)
      @code = code
      @reason = reason
      @field = field
      @request_id = request_id
      @metadata = metadata
      @retry_after = retry_after
    end

    # A call is named before its first message, or, where there was none, behind its refusal.
    def self.find_request_id(*metadata)
      metadata.compact.filter_map { |one| one['x-request-id'] }.first.to_s
    end

    # Finds the first detail of each kind; an empty one where there is none.
    def self.read_details(status)
      details = status.to_rpc_status&.details.to_a
      DETAILS.map { |kind| details.find { |detail| detail.is(kind) }&.unpack(kind) || kind.new }
    end

    def self.name_code(number)
      GRPC::Core::StatusCodes.constants.find { |name| GRPC::Core::StatusCodes.const_get(name) == number }.to_s
    end

    # Says what is behind a status that the service did not write itself.
    def self.explain(status, target)
      case status
      when GRPC::Unavailable
        "no service answers at #{target}, or the connection was lost: #{status.details}"
      when GRPC::Unimplemented
        "#{target} does not know this call: it is another service, or older than this client: update it"
      when GRPC::DeadlineExceeded
        'the timeout passed before the answer was complete'
      else
        status.details
      end
    end

    private_class_method :find_request_id, :read_details, :name_code, :explain
  end
end
