package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var franzCodecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func writeWithFranz(bootstrap, spec string, targets []string) error {
	records, err := readSpec(spec)
	if err != nil {
		return err
	}
	for _, target := range targets {
		topic, codec, _ := strings.Cut(target, "=")
		client, err := kgo.NewClient(
			kgo.SeedBrokers(bootstrap),
			kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerBatchCompression(franzCodecs[codec]),
			kgo.ProducerLinger(20*time.Millisecond),
		)
		if err != nil {
			return err
		}
		batch := make([]*kgo.Record, 0, len(records))
		for _, each := range records {
			record := &kgo.Record{
				Topic:     topic,
				Partition: each.Partition,
				Key:       each.Key,
				Value:     each.Value,
				Timestamp: time.UnixMilli(each.Timestamp),
			}
			for _, header := range each.Headers {
				record.Headers = append(record.Headers, kgo.RecordHeader{Key: header.name, Value: header.content})
			}
			batch = append(batch, record)
		}
		err = client.ProduceSync(context.Background(), batch...).FirstErr()
		client.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", topic, err)
		}
	}
	return nil
}

func readWithFranz(bootstrap string, wanted int, topics []string) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumeTopics(topics...),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), readMax)
	defer cancel()
	for seen := 0; seen < wanted; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %d of %d records: %w", seen, wanted, err)
		}
		for _, record := range fetches.Records() {
			seen++
			line := dumped{
				Topic:     record.Topic,
				Partition: record.Partition,
				Offset:    record.Offset,
				Key:       record.Key,
				Value:     record.Value,
				Timestamp: record.Timestamp.UnixMilli(),
			}
			for _, each := range record.Headers {
				line.Headers = append(line.Headers, header{each.Key, each.Value})
			}
			if err := line.print(); err != nil {
				return err
			}
		}
	}
	return nil
}

func workWithFranz(stop context.Context, bootstrap, group, topic, assignor string) error {
	balancers := map[string]kgo.GroupBalancer{
		"range":              kgo.RangeBalancer(),
		"roundrobin":         kgo.RoundRobinBalancer(),
		"sticky":             kgo.StickyBalancer(),
		"cooperative-sticky": kgo.CooperativeStickyBalancer(),
	}
	generation := func(client *kgo.Client) int32 {
		_, number := client.GroupMetadata()
		return number
	}
	// What was refused stays uncommitted in the client, and is due again.
	commit := func(client *kgo.Client) {
		if err := client.CommitUncommittedOffsets(context.Background()); err != nil {
			event("refused", fmt.Sprintf("%q", err.Error()))
		}
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(sessionTimeout()),
		kgo.HeartbeatInterval(300 * time.Millisecond),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, client *kgo.Client, assigned map[string][]int32) {
			event("assigned", generation(client), numbers(assigned[topic]))
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, client *kgo.Client, revoked map[string][]int32) {
			commit(client)
			event("revoked", generation(client), numbers(revoked[topic]))
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
			event("lost", "-", numbers(lost[topic]))
		}),
	}
	if assignor == "consumer" {
		options = append(options, kgo.ServerSideBalancer())
	} else {
		options = append(options, kgo.Balancers(balancers[assignor]))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return err
	}
	event("started")
	for stop.Err() == nil {
		fetches := client.PollRecords(stop, 500)
		if err := fetches.Err(); err != nil && !errors.Is(err, context.Canceled) {
			event("refused", fmt.Sprintf("%q", err.Error()))
		}
		for _, record := range fetches.Records() {
			event("record", record.Partition, record.Offset)
		}
		commit(client)
		client.AllowRebalance()
	}
	client.CloseAllowingRebalance()
	event("left")
	return nil
}

// sessionTimeout is what the test wants it to be.
func sessionTimeout() time.Duration {
	if milliseconds, err := strconv.Atoi(os.Getenv("CORELANE_INTEROP_SESSION_MS")); err == nil {
		return time.Duration(milliseconds) * time.Millisecond
	}
	return 6 * time.Second
}
