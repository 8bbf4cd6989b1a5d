# frozen_string_literal: true

# Asks idefics2-serving about images, over gRPC.
module Idefics2
end

require 'idefics2/v1/files_services_pb'
require 'idefics2/v1/generation_services_pb'
require 'idefics2/v1/requests_services_pb'
require 'idefics2/error'
require 'idefics2/message'
require 'idefics2/question'
require 'idefics2/client'
