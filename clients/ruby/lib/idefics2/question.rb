# frozen_string_literal: true

module Idefics2
  # What is asked, as it goes over the wire.
  module Question
    # The contract's bound, checked here too: a message that is too large to send gets no good error.
    MAX_IMAGE_BYTES = 20_000_000
    # A message has at most 28 MiB: so many bytes are for images, the rest is for all else.
    MAX_INLINE_BYTES = (28 * 2**20) - (2**16)
    # Any scheme: the service says better than a missing file would what it does not fetch.
    IS_URL = %r{\A(?:data:|[a-z][a-z0-9+.-]*://)}i

    # Returns a V1::GenerateRequest; reads the file of its image, and raises Error where images are too large, or the wire
    # cannot hold a value.
    def self.write(image: nil, images: [], **options)
      image &&= image.to_s # of a Pathname
      is_url = image&.b&.match?(IS_URL) # a path may be of any bytes
      options[:image_url] = image if is_url
      first = image && !is_url ? [read_image(image)] : []
      message = Message.write(V1::GenerateRequest, options.merge(images: [*first, *images]))
      check_total(message)
      message
    end

    def self.read_image(path)
      data = ::File.binread(path, MAX_IMAGE_BYTES + 1).to_s # one byte more than allowed is enough to refuse it
      return V1::Image.new(data: data) if data.bytesize <= MAX_IMAGE_BYTES

      Message.refuse("image #{path} must have at most #{MAX_IMAGE_BYTES} bytes", 'FILE_TOO_LARGE', '')
    end

    def self.check_total(message)
      num_bytes = message.image_url.bytesize + message.images.sum { |image| image.data.bytesize + image.url.bytesize }
      return if num_bytes <= MAX_INLINE_BYTES

      what = "images must have at most #{MAX_INLINE_BYTES} bytes together, not #{num_bytes}"
      Message.refuse("#{what}: upload them, and name them by their sha-256", 'PAYLOAD_TOO_LARGE', 'images')
    end

    private_class_method :read_image, :check_total
  end
end
