// franz-go does its whole job. Usage: jobs HOST:PORT
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var (
	bootstrap = "127.0.0.1:9092"
	run       = fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixMicro()%100000000)
)

const patience = 60 * time.Second

func name(what string) string { return what + "-" + run }

func client(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(bootstrap))...)
	if err != nil {
		panic(err)
	}
	return client
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func equal(got, wanted any, what string) {
	if fmt.Sprint(got) != fmt.Sprint(wanted) {
		panic(fmt.Errorf("%s: got %v, wanted %v", what, got, wanted))
	}
}

func topic(ctx context.Context, what string, partitions int32) string {
	c := client()
	defer c.Close()
	made := name(what)
	_, err := kadm.NewClient(c).CreateTopic(ctx, partitions, 1, nil, made)
	check(err)
	return made
}

func values(count int) []string {
	var all []string
	for n := range count {
		all = append(all, strings.Repeat("value "+strconv.Itoa(n)+" ", 20))
	}
	return all
}

func produce(ctx context.Context, where string, values []string, options ...kgo.Opt) {
	c := client(options...)
	defer c.Close()
	var records []*kgo.Record
	for n, value := range values {
		key := strconv.Itoa(n)
		header := kgo.RecordHeader{Key: "n", Value: []byte(key)}
		records = append(records, &kgo.Record{
			Topic: where, Key: []byte(key), Value: []byte(value), Headers: []kgo.RecordHeader{header},
		})
	}
	check(c.ProduceSync(ctx, records...).FirstErr())
}

func take(ctx context.Context, c *kgo.Client, count int) []*kgo.Record {
	var taken []*kgo.Record
	for len(taken) < count {
		fetches := c.PollFetches(ctx)
		check(fetches.Err())
		taken = append(taken, fetches.Records()...)
	}
	return taken
}

func texts(records []*kgo.Record) []string {
	var all []string
	for _, record := range records {
		all = append(all, string(record.Value))
	}
	return all
}

func read(ctx context.Context, where string, count int, options ...kgo.Opt) []*kgo.Record {
	start := kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())
	c := client(append(options, kgo.ConsumeTopics(where), start)...)
	defer c.Close()
	return take(ctx, c, count)
}

func topicsLiveAndDie(ctx context.Context) {
	made := topic(ctx, "life", 3)
	c := client()
	defer c.Close()
	admin := kadm.NewClient(c)
	found, err := admin.ListTopics(ctx, made)
	check(err)
	equal(len(found[made].Partitions), 3, "partitions")
	_, err = admin.CreatePartitions(ctx, 2, made)
	check(err)
	value := "777000"
	_, err = admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &value}}, made)
	check(err)
	_, err = admin.DeleteTopics(ctx, made)
	check(err)
}

func everyCompressionComesBack(ctx context.Context) {
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	for n, codec := range codecs {
		made := topic(ctx, "codec-"+strconv.Itoa(n), 1)
		wanted := values(300)
		produce(ctx, made, wanted, kgo.ProducerBatchCompression(codec))
		found := read(ctx, made, len(wanted))
		equal(texts(found), wanted, "values")
		equal(string(found[7].Headers[0].Value), "7", "header")
	}
}

func aGroupGoesOnWhereItStood(ctx context.Context) {
	made, group := topic(ctx, "group", 4), name("group")
	produce(ctx, made, values(100))
	start := kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())
	options := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(made), kgo.DisableAutoCommit(), start}
	first := client(options...)
	taken := take(ctx, first, 100)
	check(first.CommitRecords(ctx, taken...))
	first.Close()
	produce(ctx, made, []string{"later"})
	second := client(options...)
	defer second.Close()
	equal(texts(take(ctx, second, 1)), []string{"later"}, "the rest")
	lags, err := kadm.NewClient(second).Lag(ctx, group)
	check(err)
	check(lags.Error())
	equal(lags[group].Lag.Total(), 1, "lag")
}

func transactionsCommitAndAbort(ctx context.Context) {
	made := topic(ctx, "txn", 1)
	producer := client(kgo.TransactionalID(name("txn")), kgo.DefaultProduceTopic(made))
	defer producer.Close()
	for n := range 4 {
		check(producer.BeginTransaction())
		check(producer.ProduceSync(ctx, kgo.StringRecord(strconv.Itoa(n))).FirstErr())
		check(producer.EndTransaction(ctx, kgo.TransactionEndTry(n%2 == 0)))
	}
	committed := read(ctx, made, 2, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	equal(texts(committed), []string{"0", "2"}, "committed")
	equal(len(read(ctx, made, 4)), 4, "all")
}

func aTransactSessionIsExactlyOnce(ctx context.Context) {
	source, target, group := topic(ctx, "source", 2), topic(ctx, "target", 1), name("eos")
	produce(ctx, source, values(50))
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(bootstrap), kgo.TransactionalID(name("eos")), kgo.ConsumerGroup(group), kgo.ConsumeTopics(source),
		kgo.DefaultProduceTopic(target), kgo.RequireStableFetchOffsets(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	)
	check(err)
	defer session.Close()
	for moved := 0; moved < 50; {
		fetches := session.PollFetches(ctx)
		check(fetches.Err())
		check(session.Begin())
		for _, record := range fetches.Records() {
			session.Produce(ctx, kgo.SliceRecord(record.Value), nil)
		}
		committed, err := session.End(ctx, kgo.TryCommit)
		check(err)
		if committed {
			moved += fetches.NumRecords()
		}
	}
	found := texts(read(ctx, target, 50, kgo.FetchIsolationLevel(kgo.ReadCommitted())))
	wanted := values(50)
	sort.Strings(found)
	sort.Strings(wanted)
	equal(found, wanted, "moved values")
}

// Two members of one partition; one record is released once, one rejected, and nobody gets what another had.
func aQueueIsWorkedOffTogether(ctx context.Context) {
	made, group := topic(ctx, "queue", 1), name("queue")
	produce(ctx, made, values(1000))
	earliest := "earliest"
	config := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	config.Name, config.Value = "share.auto.offset.reset", &earliest
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	resource.Configs = append(resource.Configs, config)
	request := kmsg.NewPtrIncrementalAlterConfigsRequest()
	request.Resources = append(request.Resources, resource)
	admin := client()
	defer admin.Close()
	_, err := request.RequestWith(ctx, admin)
	check(err)
	first, second := client(kgo.ShareGroup(group), kgo.ConsumeTopics(made), kgo.ShareMaxRecords(50)),
		client(kgo.ShareGroup(group), kgo.ConsumeTopics(made), kgo.ShareMaxRecords(50))
	seen, busy := map[string][]int32{}, map[int]bool{}
	for deliveries := 0; deliveries < 1001; {
		check(ctx.Err())
		for at, member := range []*kgo.Client{first, second} {
			short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
			fetches := member.PollRecords(short, 50)
			cancel()
			fetches.EachRecord(func(record *kgo.Record) {
				value := string(record.Value)
				seen[value] = append(seen[value], record.DeliveryCount())
				busy[at] = true
				deliveries++
				switch {
				case record.Offset == 7 && record.DeliveryCount() == 1:
					record.Ack(kgo.AckRelease)
				case record.Offset == 8:
					record.Ack(kgo.AckReject)
				default:
					record.Ack(kgo.AckAccept)
				}
			})
			check(member.FlushAcks(ctx))
		}
	}
	equal(len(seen), 1000, "different records")
	equal(len(busy), 2, "members that did something")
	equal(fmt.Sprint(seen[values(1000)[7]]), "[1 2]", "deliveries of the one that was released")
	first.Close()
	second.Close()
	lags, err := kadm.NewClient(admin).DescribeShareGroupOffsets(ctx, group)
	check(err)
	found, _ := lags[group].Offsets.Lookup(made, 0)
	equal(found.StartOffset, int64(1000), "where the group is")
}

func timesFindOffsets(ctx context.Context) {
	made := topic(ctx, "times", 1)
	c := client()
	defer c.Close()
	for n := range 5 {
		record := &kgo.Record{Topic: made, Value: []byte("x"), Timestamp: time.UnixMilli(1_700_000_000_000 + int64(n)*1000)}
		check(c.ProduceSync(ctx, record).FirstErr())
	}
	admin := kadm.NewClient(c)
	after, err := admin.ListOffsetsAfterMilli(ctx, 1_700_000_002_500, made)
	check(err)
	equal(after[made][0].Offset, 3, "offset")
	ends, err := admin.ListEndOffsets(ctx, made)
	check(err)
	equal(ends[made][0].Offset, 5, "end")
}

func main() {
	if len(os.Args) > 1 {
		bootstrap = os.Args[1]
	}
	jobs := []struct {
		title string
		job   func(context.Context)
	}{
		{"topics_live_and_die", topicsLiveAndDie},
		{"every_compression_comes_back", everyCompressionComesBack},
		{"a_group_goes_on_where_it_stood", aGroupGoesOnWhereItStood},
		{"transactions_commit_and_abort", transactionsCommitAndAbort},
		{"a_transact_session_is_exactly_once", aTransactSessionIsExactlyOnce},
		{"a_queue_is_worked_off_together", aQueueIsWorkedOffTogether},
		{"times_find_offsets", timesFindOffsets},
	}
	failed := false
	for number, one := range jobs {
		line := fmt.Sprintf("%d - franz-go: %s", number+1, one.title)
		if err := try(one.job); err != nil {
			failed = true
			fmt.Printf("not ok %s\n  # %v\n", line, err)
		} else {
			fmt.Println("ok " + line)
		}
	}
	if failed {
		os.Exit(1)
	}
}

func try(job func(context.Context)) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	defer func() {
		if panicked := recover(); panicked != nil {
			err = errors.New(fmt.Sprint(panicked))
		}
	}()
	job(ctx)
	return nil
}
