# frozen_string_literal: true

Gem::Specification.new do |spec|
  spec.name = 'idefics2-client'
  spec.version = '0.1.0'
  spec.summary = 'Ask Idefics2 about images, over gRPC'
  spec.authors = ['idefics2-serving']
  spec.license = 'Apache-2.0'
  spec.homepage = 'https://github.com/idefics2-serving/idefics2-serving/tree/main/clients/ruby'
  spec.required_ruby_version = '>= 3.1'
  spec.files = Dir['lib/**/*.rb', 'README.md']
  # 4 does not read what Debian's protoc writes into lib/idefics2/v1.
  spec.add_dependency 'google-protobuf', '>= 3.21', '< 4'
  spec.add_dependency 'googleapis-common-protos-types', '~> 1.4'
  spec.add_dependency 'grpc', '~> 1.51'
end
