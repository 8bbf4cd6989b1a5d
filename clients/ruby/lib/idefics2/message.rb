# frozen_string_literal: true

module Idefics2
  # Messages of the wire, made of a caller's values. What the wire cannot hold is refused here, by the name of its field.
  module Message
    INT32 = (-2**31..(2**31) - 1)
    INT64 = (-2**63..(2**63) - 1)
    # A number in the place of a message is the seconds of a duration.
    BOUNDS = { int32: INT32, enum: INT32, int64: INT64, uint64: (0..(2**64) - 1), message: INT64 }.freeze
    # What encoding texts have that nobody has said one of.
    UNSAID = [Encoding::BINARY, Encoding::US_ASCII].freeze

    # Returns a message of this kind; `place` is before the names of its fields, where it is in another message.
    def self.write(kind, values, place = '')
      written = values.to_h do |name, value|
        field = kind.descriptor.lookup(name.to_s)
        [name, field ? write_value(field, "#{place}#{name}", value) : value]
      end
      kind.new(**written) # which knows, too, what it has no field for
    end

    def self.refuse(message, reason, field, metadata = {})
      raise Error.new(message, code: 'INVALID_ARGUMENT', reason: reason, field: field, metadata: metadata)
    end

    def self.write_value(field, name, value)
      case [value, field.type]
      in Array, _ then value.map { |one| write_value(field, name, one) }
      in Hash, :message then write(field.subtype.msgclass, value, "#{name}.")
      in String, :string then write_text(name, value)
      in Integer | Float, _ then write_number(field, name, value)
      else value
      end
    end

    def self.write_text(name, text)
      text = text.dup.force_encoding(Encoding::UTF_8) if UNSAID.include?(text.encoding)
      text = text.encode(Encoding::UTF_8)
      raise EncodingError unless text.valid_encoding?

      text
    rescue EncodingError
      refuse("#{name} must be valid UTF-8", 'TEXT_NOT_UNICODE', name)
    end

    # A refusal has the words and the metadata that the service has for it.
    def self.write_number(field, name, value)
      range = BOUNDS[field.type]
      return value unless range

      bound = 'a whole number' if field.type != :message && value % 1 != 0
      bound = "#{range.begin} to #{range.end}" unless range.cover?(value)
      return value unless bound

      told = { 'field' => name, 'bound' => bound, 'value' => value.to_s }
      refuse("#{name} must be #{bound}, not #{value}", 'VALUE_OUT_OF_RANGE', name, told)
    end

    private_class_method :write_value, :write_text, :write_number
  end
end
