# frozen_string_literal: true

# Asks about a picture, and writes the answer as it comes: ruby ask.rb cat.png "What is on the sofa?"
require 'idefics2'

picture, prompt = ARGV

# Where and with which key: IDEFICS2_CLIENT_TARGET and IDEFICS2_API_KEY, or the arguments of new.
client = Idefics2::Client.new
begin
  client.stream(image: picture, prompt: prompt, temperature: 0.0, timeout: 60) do |event|
    print event.text_delta.text if event.text_delta
    $stdout.flush
  end
  puts
rescue Idefics2::Error => e
  abort "#{e.message} (#{e.reason.empty? ? e.code : e.reason})"
rescue SystemCallError => e
  abort e.message
end
